"""Documents and their chunks in one generation on Qdrant."""

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from qdrant_client import AsyncQdrantClient, models

from rag_store.base import EmbeddedChunk
from rag_store.qdrant.client import Names, translated
from rag_store.qdrant.points import (
    chunk_point,
    document_point,
    document_point_id,
    embedded_of,
    is_one,
    where,
)
from rag_store.versioned.documents import Documents
from rag_store.versioned.records import DENSE, ORPHAN_SECONDS, Payload

BATCH = 64  # points in one request: 64 of 4 kB vectors and 6 kB late bytes stay below a megabyte
PAGE = 1000
_ORDER = models.WriteOrdering.MEDIUM


class QdrantDocuments(Documents):
    """The documents of one generation."""

    def __init__(self, client: AsyncQdrantClient, names: Names, generation_id: str) -> None:
        self._client = client
        self.chunks = names.chunks(generation_id)
        self._records = names.documents(generation_id)

    async def _pages(
        self, collection: str, condition: models.Filter | None = None, **options: Any
    ) -> AsyncIterator[list[models.Record]]:
        offset: models.ExtendedPointId | None = None
        while True:
            with translated():
                points, offset = await self._client.scroll(
                    collection, condition, limit=PAGE, offset=offset, **options
                )
            yield points
            if offset is None:
                return

    async def payloads(self) -> list[Payload]:
        """Every document's record, ordered by doc_id."""
        found = [point.payload async for page in self._pages(self._records) for point in page]
        return sorted((body for body in found if body), key=lambda body: body["doc_id"])

    async def by_id(self, doc_ids: Sequence[str]) -> dict[str, Payload]:
        """The records of those documents that are there, by doc_id."""
        if not doc_ids:
            return {}
        ids = [document_point_id(doc_id) for doc_id in doc_ids]
        with translated():
            points = await self._client.retrieve(self._records, ids)
        return {point.payload["doc_id"]: point.payload for point in points if point.payload}

    async def _write_chunks(
        self, chunks: Sequence[EmbeddedChunk], title: str, version: str
    ) -> None:
        points = [chunk_point(item, title, version) for item in chunks]
        for start in range(0, len(points), BATCH):
            await self._upsert(self.chunks, points[start : start + BATCH])

    async def _write_record(self, body: dict[str, Any]) -> None:
        await self._upsert(self._records, [document_point(body)])

    async def _upsert(self, collection: str, points: list[models.PointStruct]) -> None:
        with translated():
            await self._client.upsert(collection, points, ordering=_ORDER)

    async def _remove_old(self, doc_id: str, version: str, former: str | None) -> None:
        gone = [_abandoned(), *([is_one("version", former)] if former else [])]
        condition = models.Filter(
            must=[is_one("doc_id", doc_id)], must_not=[is_one("version", version)], should=[*gone]
        )
        await self._delete_chunks(condition)

    async def _remove_versions(self, versions: Sequence[str]) -> None:
        await self._delete_chunks(where(version=list(versions)))

    async def _delete_chunks(self, condition: models.Filter) -> None:
        selector = models.FilterSelector(filter=condition)
        with translated():
            await self._client.delete(self.chunks, selector, ordering=_ORDER)

    async def _remove_records(self, doc_ids: Sequence[str]) -> None:
        ids: list[models.ExtendedPointId] = [document_point_id(key) for key in doc_ids]
        with translated():
            await self._client.delete(self._records, ids, ordering=_ORDER)

    async def sweep(self) -> None:
        """Remove abandoned chunks that no document names."""
        old, fields = models.Filter(must=[_abandoned()]), ["doc_id", "version"]
        async for page in self._pages(self.chunks, old, with_payload=fields):
            found = [point.payload for point in page if point.payload]
            valid = await self.by_id(sorted({body["doc_id"] for body in found}))
            versions = {body["version"] for body in valid.values()}
            if orphans := sorted({body["version"] for body in found} - versions):
                await self._remove_versions(orphans)

    async def _read_chunks(self, versions: Sequence[str]) -> list[EmbeddedChunk]:
        pages = self._pages(self.chunks, where(version=list(versions)), with_vectors=[DENSE])
        return [embedded_of(point) async for page in pages for point in page]


def _abandoned() -> models.FieldCondition:
    before = models.Range(lt=time.time() - ORPHAN_SECONDS)
    return models.FieldCondition(key="written_at", range=before)
