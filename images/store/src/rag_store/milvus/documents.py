"""Documents and their chunks in one generation on Milvus."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from rag_store.base import EmbeddedChunk, StoreError, indexed_text
from rag_store.bm25 import document_vector
from rag_store.milvus.client import Milvus, Names, key_of, one_of
from rag_store.milvus.schema import MAX_TERMS, record
from rag_store.versioned.documents import Documents
from rag_store.versioned.records import (
    DENSE,
    ORPHAN_SECONDS,
    SPARSE,
    Payload,
    chunk_of,
    chunk_payload,
    late_of,
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


def _embedded_of(row: dict[str, Any]) -> EmbeddedChunk:
    dense = np.asarray(row[DENSE], dtype=np.float32)
    return EmbeddedChunk(chunk_of(row["body"]), dense, late_of(row["body"]))


class MilvusDocuments(Documents):
    """The documents of one generation."""

    def __init__(self, milvus: Milvus, names: Names, generation_id: str) -> None:
        self._milvus = milvus
        self.chunks = names.chunks(generation_id)
        self._records = names.documents(generation_id)

    async def payloads(self) -> list[Payload]:
        """Every document's record, ordered by doc_id."""
        rows = await self._milvus.rows(self._records)
        return sorted((row["body"] for row in rows), key=lambda body: body["doc_id"])

    async def by_id(self, doc_ids: Sequence[str]) -> dict[str, Payload]:
        """The records of those documents that are there, by doc_id."""
        if not doc_ids:
            return {}
        keys = [key_of(doc_id) for doc_id in doc_ids]
        rows = await self._milvus.rows(self._records, one_of("id", keys))
        return {row["body"]["doc_id"]: row["body"] for row in rows}

    async def _write_chunks(
        self, chunks: Sequence[EmbeddedChunk], title: str, version: str
    ) -> None:
        rows = [_chunk_row(item, title, version) for item in chunks]
        for start in range(0, len(rows), BATCH):
            await self._milvus.call("insert", self.chunks, rows[start : start + BATCH])

    async def _write_record(self, body: dict[str, Any]) -> None:
        await self._milvus.call("upsert", self._records, [record(key_of(body["doc_id"]), body)])

    async def _remove_old(self, doc_id: str, version: str, former: str | None) -> None:
        gone = f'({_abandoned()} or version == "{former}")' if former else _abandoned()
        condition = f'document == "{key_of(doc_id)}" and version != "{version}" and {gone}'
        await self._milvus.call("delete", self.chunks, filter=condition)

    async def _remove_records(self, doc_ids: Sequence[str]) -> None:
        keys = [key_of(doc_id) for doc_id in doc_ids]
        await self._milvus.call("delete", self._records, filter=one_of("id", keys))

    async def _remove_versions(self, versions: Sequence[str]) -> None:
        await self._milvus.call("delete", self.chunks, filter=one_of("version", versions))

    async def sweep(self) -> None:
        """Remove abandoned chunks that no document names."""
        rows = await self._milvus.rows(self.chunks, _abandoned(), ["version"])
        valid = {body["version"] for body in await self.payloads()}
        if orphans := sorted({row["version"] for row in rows} - valid):
            await self._remove_versions(orphans)

    async def _read_chunks(self, versions: Sequence[str]) -> list[EmbeddedChunk]:
        rows = await self._milvus.rows(self.chunks, one_of("version", versions), ["body", DENSE])
        return [_embedded_of(row) for row in rows]


def _abandoned() -> str:
    return f"written_at < {int(time.time()) - ORPHAN_SECONDS}"
