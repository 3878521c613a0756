"""Documents in stores without transactions.

Each writing of a document has a version: the chunks are written first, then one record (the
document's) makes their version the valid one, then the former version's chunks go. Whatever a
reader finds counts only when its version is the document's. A writer that dies on the way leaves
chunks that no document names; they are removed once older than any writer can still be busy.
"""

import base64
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rag_store.base import Chunk, Document, EmbeddedChunk, Hit, SearchMode
from rag_store.fusion import rank

ATTEMPTS = 5
ORPHAN_SECONDS = 3600
DENSE, SPARSE = "dense", "bm25"
Payload = Mapping[str, Any]


def new_version() -> str:
    """A name for one writing of one document; no two writers share one."""
    return uuid.uuid4().hex


def document_payload(document: Document, version: str, chunks: int) -> dict[str, Any]:
    """The record that makes `version` the valid one."""
    return {
        "doc_id": document.doc_id,
        "uri": document.uri,
        "title": document.title,
        "content_hash": document.content_hash,
        "modified_at": document.modified_at.isoformat(),
        "metadata": dict(document.metadata),
        "version": version,
        "chunks": chunks,
    }


def document_of(payload: Payload) -> Document:
    """The document in its record."""
    return Document(
        payload["doc_id"],
        payload["uri"],
        payload["title"],
        payload["content_hash"],
        datetime.fromisoformat(payload["modified_at"]),
        payload["metadata"],
    )


def chunk_payload(item: EmbeddedChunk, version: str) -> dict[str, Any]:
    """The record of one chunk; `written_at` is in seconds since the epoch."""
    chunk = item.chunk
    return {
        "chunk_id": chunk.chunk_id,
        "doc_id": chunk.doc_id,
        "ordinal": chunk.ordinal,
        "text": chunk.text,
        "heading_path": list(chunk.heading_path),
        "start": chunk.start,
        "end": chunk.end,
        "token_count": chunk.token_count,
        "version": version,
        "written_at": int(time.time()),
        "late": base64.b64encode(item.late).decode() if item.late is not None else None,
    }


def chunk_of(payload: Payload) -> Chunk:
    """The chunk in its record."""
    return Chunk(
        payload["chunk_id"],
        payload["doc_id"],
        payload["ordinal"],
        payload["text"],
        tuple(payload["heading_path"]),
        payload["start"],
        payload["end"],
        payload["token_count"],
    )


def late_of(payload: Payload) -> bytes | None:
    """The chunk's packed late vectors, None when it has none or they were not asked for."""
    late = payload.get("late")
    return None if late is None else base64.b64decode(late)


@dataclass(frozen=True, slots=True)
class Found:
    """A chunk's record that a leg found, with its score."""

    payload: Payload
    score: float


Legs = Mapping[str, Sequence[Found]]
FindLegs = Callable[[int], Awaitable[Legs]]
ReadDocuments = Callable[[Sequence[str]], Awaitable[Mapping[str, Payload]]]


def _valid(leg: Sequence[Found], documents: Mapping[str, Payload]) -> list[Found]:
    return [
        item
        for item in leg
        if documents.get(item.payload["doc_id"], {}).get("version") == item.payload["version"]
    ]


async def search(
    find: FindLegs, documents_of: ReadDocuments, mode: SearchMode, limit: int, *, late: bool
) -> list[Hit]:
    """The best valid chunks; searches again, a little wider, while documents change under it.

    `find(limit)` runs the legs, `documents_of(doc_ids)` reads documents' records.
    """
    wide = limit
    for _ in range(ATTEMPTS):
        found = await find(wide)
        ids = {item.payload["doc_id"] for leg in found.values() for item in leg}
        documents = await documents_of(sorted(ids))
        valid = {name: _valid(leg, documents) for name, leg in found.items()}
        stale = sum(len(found[name]) - len(valid[name]) for name in found)
        enough = all(len(valid[n]) >= limit or len(found[n]) < wide for n in found)
        if not stale or (wide > limit and enough):
            break
        wide += 2 * stale
    legs = {name: leg[:limit] for name, leg in valid.items()}
    return _hits(legs, documents, mode, limit, late=late)


def _pairs(leg: Sequence[Found]) -> list[tuple[str, float]]:
    return [(item.payload["chunk_id"], item.score) for item in leg]


def _hits(
    legs: Legs, documents: Mapping[str, Payload], mode: SearchMode, limit: int, *, late: bool
) -> list[Hit]:
    payloads = {f.payload["chunk_id"]: f.payload for leg in legs.values() for f in leg}
    hits = []
    for item in rank(_pairs(legs.get(DENSE, [])), _pairs(legs.get(SPARSE, [])), mode, limit):
        payload = payloads[item.chunk_id]
        document = documents[payload["doc_id"]]
        hits.append(
            Hit(
                chunk_of(payload),
                document["uri"],
                document["title"],
                item.score,
                item.dense_score,
                item.dense_rank,
                item.lexical_score,
                item.lexical_rank,
                late_of(payload) if late else None,
            )
        )
    return hits
