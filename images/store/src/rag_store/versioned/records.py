"""Documents, chunks and syncs as the records that are stored."""

import base64
import time
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rag_store.base import Chunk, Document, EmbeddedChunk, SyncState

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


def sync_payload(state: SyncState) -> dict[str, Any]:
    """The record of a completed sync."""
    newest = state.newest_modified_at
    return {
        "finished_at": state.finished_at.isoformat(),
        "newest_modified_at": newest.isoformat() if newest else None,
        "documents": state.documents,
        "chunks": state.chunks,
    }


def sync_of(payload: Payload) -> SyncState:
    """The completed sync in its record."""
    newest = payload["newest_modified_at"]
    return SyncState(
        datetime.fromisoformat(payload["finished_at"]),
        datetime.fromisoformat(newest) if newest else None,
        payload["documents"],
        payload["chunks"],
    )
