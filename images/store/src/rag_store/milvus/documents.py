"""Documents and their chunks in one generation, by the protocol of `rag_store.versioned`."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rag_store.base import Document, EmbeddedChunk, StoreError, indexed_text
from rag_store.bm25 import document_vector
from rag_store.milvus.client import Milvus, Names, key_of, one_of
from rag_store.milvus.schema import MAX_TERMS, record
from rag_store.versioned import (
    DENSE,
    ORPHAN_SECONDS,
    SPARSE,
    Payload,
    chunk_of,
    chunk_payload,
    document_of,
    document_payload,
    late_of,
    new_version,
)

BATCH = 64
_NO_TERM = {0: 1.0}  # a sparse vector may not be empty; no query has term 0


def _chunk_row(item: EmbeddedChunk, title: str, version: str) -> dict[str, Any]:
    weights = document_vector(indexed_text(title, item.chunk))
    if len(weights) > MAX_TERMS:
        raise StoreError(f"chunk {item.chunk.chunk_id}: more than {MAX_TERMS} distinct terms")
    body = chunk_payload(item, version)
    return {
        "id": f"{version}-{item.chunk.ordinal}",
        "body": body,
        "document": key_of(item.chunk.doc_id),
        "version": version,
        "written_at": body["written_at"],
        "terms": list(weights),
        DENSE: item.dense.tolist(),
        SPARSE: weights or _NO_TERM,
    }


class Documents:
    """The documents of one generation."""

    def __init__(self, milvus: Milvus, names: Names, generation_id: str) -> None:
        self._milvus = milvus
        self._chunks = names.chunks(generation_id)
        self._documents = names.documents(generation_id)

    async def payloads(self) -> list[dict[str, Any]]:
        """Every document's record, ordered by doc_id."""
        rows = await self._milvus.rows(self._documents)
        return sorted((row["body"] for row in rows), key=lambda body: body["doc_id"])

    async def by_id(self, doc_ids: Sequence[str]) -> dict[str, Payload]:
        """The records of those documents that are there, by doc_id."""
        if not doc_ids:
            return {}
        keys = [key_of(doc_id) for doc_id in doc_ids]
        rows = await self._milvus.rows(self._documents, one_of("id", keys))
        return {row["body"]["doc_id"]: row["body"] for row in rows}

    async def replace(self, document: Document, chunks: Sequence[EmbeddedChunk]) -> None:
        """Write the new version, make it valid, remove the former."""
        version = new_version()
        rows = [_chunk_row(item, document.title, version) for item in chunks]
        for start in range(0, len(rows), BATCH):
            await self._milvus.call("insert", self._chunks, rows[start : start + BATCH])
        former = (await self.by_id([document.doc_id])).get(document.doc_id)
        body = document_payload(document, version, len(chunks))
        await self._milvus.call("upsert", self._documents, [record(key_of(document.doc_id), body)])
        await self._remove_old(document.doc_id, version, former)

    async def _remove_old(self, doc_id: str, version: str, former: Payload | None) -> None:
        old = f"written_at < {int(time.time()) - ORPHAN_SECONDS}"
        gone = f'({old} or version == "{former["version"]}")' if former else old
        condition = f'document == "{key_of(doc_id)}" and version != "{version}" and {gone}'
        await self._milvus.call("delete", self._chunks, filter=condition)

    async def remove(self, doc_ids: Sequence[str]) -> None:
        """Remove documents, then the chunks of the versions they had."""
        known = await self.by_id(doc_ids)
        if not known:
            return
        keys = [key_of(doc_id) for doc_id in known]
        await self._milvus.call("delete", self._documents, filter=one_of("id", keys))
        versions = [body["version"] for body in known.values()]
        await self._milvus.call("delete", self._chunks, filter=one_of("version", versions))

    async def sweep(self) -> None:
        """Remove abandoned chunks that no document names."""
        old = f"written_at < {int(time.time()) - ORPHAN_SECONDS}"
        rows = await self._milvus.rows(self._chunks, old, ["version"])
        valid = {body["version"] for body in await self.payloads()}
        if orphans := sorted({row["version"] for row in rows} - valid):
            await self._milvus.call("delete", self._chunks, filter=one_of("version", orphans))

    async def chunks_of(
        self, documents: Sequence[Mapping[str, Any]]
    ) -> list[tuple[Document, list[EmbeddedChunk]]]:
        """The documents of these records with their chunks and vectors, in order."""
        found: dict[str, list[EmbeddedChunk]] = {body["doc_id"]: [] for body in documents}
        versions = [body["version"] for body in documents]
        rows = await self._milvus.rows(self._chunks, one_of("version", versions), ["body", DENSE])
        for row in sorted(rows, key=lambda row: row["body"]["ordinal"]):
            body, dense = row["body"], np.asarray(row[DENSE], dtype=np.float32)
            found[body["doc_id"]].append(EmbeddedChunk(chunk_of(body), dense, late_of(body)))
        return [(document_of(body), found[body["doc_id"]]) for body in documents]
