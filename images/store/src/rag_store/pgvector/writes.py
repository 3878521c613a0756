"""Replacing and removing documents; document frequencies change in the same transaction.

Locks are taken in one order everywhere (documents by id, then terms by id), so that concurrent
writers wait for each other but never deadlock.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pgvector import SparseVector
from psycopg import sql

from rag_store.base import Document, EmbeddedChunk, indexed_text
from rag_store.bm25 import DIMENSIONS, document_vector
from rag_store.pgvector.session import Connection

Tables = Mapping[str, sql.Identifier]
TOTAL = 0  # the term that every chunk has

_PUT_DOCUMENT = """
INSERT INTO {document} (doc_id, uri, title, content_hash, modified_at, metadata)
VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (doc_id) DO UPDATE SET uri = excluded.uri, title = excluded.title,
    content_hash = excluded.content_hash, modified_at = excluded.modified_at,
    metadata = excluded.metadata
"""
_PUT_CHUNK = """
INSERT INTO {chunk} (chunk_id, doc_id, ordinal, body, heading_path, start_offset, end_offset,
    token_count, term_ids, weights, dense, late)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
_REMOVE_CHUNKS = """
WITH gone AS (DELETE FROM {chunk} WHERE doc_id = ANY(%s) RETURNING term_ids)
SELECT term_id, count(*) FROM gone, unnest(term_ids || 0) AS term_id GROUP BY term_id
"""
_COUNT_TERMS = """
INSERT INTO {term} AS t (term_id, chunks)
SELECT * FROM unnest(%s::integer[], %s::bigint[]) AS change (term_id, chunks) ORDER BY term_id
ON CONFLICT (term_id) DO UPDATE SET chunks = t.chunks + excluded.chunks
"""
_LOCK = "SELECT doc_id FROM {document} WHERE doc_id = ANY(%s) ORDER BY doc_id FOR UPDATE"
_REMOVE_DOCUMENTS = "DELETE FROM {document} WHERE doc_id = ANY(%s)"


def storable(text: str) -> str:
    """PostgreSQL's text cannot hold NUL; the replacement keeps every offset."""
    return text.replace("\x00", "\ufffd")


def _document_row(document: Document) -> tuple[Any, ...]:
    metadata = json.dumps(dict(document.metadata), default=str).replace("\\u0000", "\\ufffd")
    return (
        document.doc_id,
        storable(document.uri),
        storable(document.title),
        document.content_hash,
        document.modified_at,
        metadata,
    )


def _chunk_row(item: EmbeddedChunk, weights: Mapping[int, float]) -> tuple[Any, ...]:
    chunk = item.chunk
    return (
        chunk.chunk_id,
        chunk.doc_id,
        chunk.ordinal,
        storable(chunk.text),
        [storable(heading) for heading in chunk.heading_path],
        chunk.start,
        chunk.end,
        chunk.token_count,
        sorted(weights),
        SparseVector(dict(weights), DIMENSIONS),
        item.dense,
        item.late,
    )


async def _count(connection: Connection, tables: Tables, change: Mapping[int, int]) -> None:
    changed = sorted((term, n) for term, n in change.items() if n)
    if changed:
        columns = [list(column) for column in zip(*changed, strict=True)]
        await connection.execute(sql.SQL(_COUNT_TERMS).format(**tables), columns)


async def _remove(connection: Connection, tables: Tables, ids: Sequence[str]) -> Counter[int]:
    cursor = await connection.execute(sql.SQL(_REMOVE_CHUNKS).format(**tables), [list(ids)])
    return Counter(dict(await cursor.fetchall()))


def _frequencies(vectors: Iterable[Mapping[int, float]]) -> Counter[int]:
    change: Counter[int] = Counter()
    for vector in vectors:
        change.update([TOTAL, *vector])
    return change


async def replace_document(
    connection: Connection, tables: Tables, document: Document, chunks: Sequence[EmbeddedChunk]
) -> None:
    """Put the document and its chunks in the place of what was there, in this transaction."""
    vectors = [document_vector(indexed_text(document.title, item.chunk)) for item in chunks]
    rows = [_chunk_row(*pair) for pair in zip(chunks, vectors, strict=True)]
    await connection.execute(sql.SQL(_PUT_DOCUMENT).format(**tables), _document_row(document))
    change = _frequencies(vectors)
    change.subtract(await _remove(connection, tables, [document.doc_id]))
    if rows:
        await connection.cursor().executemany(sql.SQL(_PUT_CHUNK).format(**tables), rows)
    await _count(connection, tables, change)


async def remove_documents(connection: Connection, tables: Tables, ids: Sequence[str]) -> None:
    """Remove documents with their chunks, in this transaction."""
    await connection.execute(sql.SQL(_LOCK).format(**tables), [list(ids)])
    removed = await _remove(connection, tables, ids)
    await connection.execute(sql.SQL(_REMOVE_DOCUMENTS).format(**tables), [list(ids)])
    await _count(connection, tables, {term: -n for term, n in removed.items()})
