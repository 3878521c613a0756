"""Documents and their chunks in one generation, by the protocol of `rag_store.versioned`."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from qdrant_client import AsyncQdrantClient, models

from rag_store.base import Document, EmbeddedChunk
from rag_store.qdrant.client import Names, translated
from rag_store.qdrant.points import (
    chunk_point,
    document_point,
    document_point_id,
    embedded_of,
    where,
)
from rag_store.versioned import DENSE, ORPHAN_SECONDS, document_of, new_version

BATCH = 64  # points in one request: 64 of 4 kB vectors and 6 kB late bytes stay below a megabyte
PAGE = 1000
_ORDER = models.WriteOrdering.MEDIUM


class Documents:
    """The documents of one generation."""

    def __init__(self, client: AsyncQdrantClient, names: Names, generation_id: str) -> None:
        self._client = client
        self._chunks = names.chunks(generation_id)
        self._documents = names.documents(generation_id)

    async def payloads(self, fields: list[str] | bool = True) -> AsyncIterator[dict[str, Any]]:
        """The payload of every document, in no order."""
        offset: models.ExtendedPointId | None = None
        while True:
            with translated():
                points, offset = await self._client.scroll(
                    self._documents, limit=PAGE, offset=offset, with_payload=fields
                )
            for point in points:
                yield point.payload or {}
            if offset is None:
                return

    async def by_id(self, doc_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The payloads of those documents that are there, by doc_id."""
        if not doc_ids:
            return {}
        ids = [document_point_id(doc_id) for doc_id in doc_ids]
        with translated():
            points = await self._client.retrieve(self._documents, ids)
        return {point.payload["doc_id"]: point.payload for point in points if point.payload}

    async def replace(self, document: Document, chunks: Sequence[EmbeddedChunk]) -> None:
        """Write the new version, make it valid, remove the former."""
        version = new_version()
        points = [chunk_point(item, document.title, version) for item in chunks]
        for start in range(0, len(points), BATCH):
            with translated():
                await self._client.upsert(
                    self._chunks, points[start : start + BATCH], ordering=_ORDER
                )
        former = (await self.by_id([document.doc_id])).get(document.doc_id)
        with translated():
            await self._client.upsert(
                self._documents, [document_point(document, version, len(chunks))], ordering=_ORDER
            )
        await self._remove_old(document.doc_id, version, former)

    async def _remove_old(
        self, doc_id: str, version: str, former: Mapping[str, Any] | None
    ) -> None:
        abandoned = models.FieldCondition(
            key="written_at", range=models.Range(lt=time.time() - ORPHAN_SECONDS)
        )
        gone: list[models.Condition] = [abandoned]
        if former is not None:
            gone.append(
                models.FieldCondition(
                    key="version", match=models.MatchValue(value=former["version"])
                )
            )
        selector = where(doc_id=doc_id)
        selector.should = gone
        selector.must_not = where(version=version).must
        await self._delete_chunks(selector)

    async def _delete_chunks(self, selector: models.Filter) -> None:
        with translated():
            await self._client.delete(
                self._chunks, models.FilterSelector(filter=selector), ordering=_ORDER
            )

    async def remove(self, doc_ids: Sequence[str]) -> None:
        """Remove documents, then the chunks of the versions they had."""
        known = await self.by_id(doc_ids)
        if not known:
            return
        with translated():
            await self._client.delete(
                self._documents, [document_point_id(key) for key in known], ordering=_ORDER
            )
        await self._delete_chunks(where(version=[item["version"] for item in known.values()]))

    async def sweep(self) -> None:
        """Remove abandoned chunks that no document names."""
        old = models.Filter(
            must=[
                models.FieldCondition(
                    key="written_at", range=models.Range(lt=time.time() - ORPHAN_SECONDS)
                )
            ]
        )
        offset: models.ExtendedPointId | None = None
        while True:
            with translated():
                points, offset = await self._client.scroll(
                    self._chunks, old, limit=PAGE, offset=offset, with_payload=["doc_id", "version"]
                )
            found = [point.payload for point in points if point.payload]
            await self._sweep_page(found)
            if offset is None:
                return

    async def _sweep_page(self, found: Sequence[Mapping[str, Any]]) -> None:
        valid = await self.by_id(sorted({item["doc_id"] for item in found}))
        versions = {item["version"] for item in valid.values()}
        if orphans := sorted({item["version"] for item in found} - versions):
            await self._delete_chunks(where(version=orphans))

    async def chunks_of(
        self, documents: Sequence[Mapping[str, Any]]
    ) -> list[tuple[Document, list[EmbeddedChunk]]]:
        """The documents of these payloads with their chunks and vectors, in order."""
        found: dict[str, list[EmbeddedChunk]] = {item["doc_id"]: [] for item in documents}
        versions = [item["version"] for item in documents]
        offset: models.ExtendedPointId | None = None
        while True:
            with translated():
                points, offset = await self._client.scroll(
                    self._chunks,
                    where(version=versions),
                    limit=PAGE,
                    offset=offset,
                    with_vectors=[DENSE],
                )
            for point in points:
                item = embedded_of(point)
                found[item.chunk.doc_id].append(item)
            if offset is None:
                break
        for chunks in found.values():
            chunks.sort(key=lambda item: item.chunk.ordinal)
        return [(document_of(dict(item)), found[item["doc_id"]]) for item in documents]
