"""Reading a generation document by document."""

from typing import Any

from psycopg import sql

from rag_store.base import Document, EmbeddedChunk
from rag_store.pgvector.names import TenantNames
from rag_store.pgvector.queries import CHUNK_COLUMNS, chunk_of
from rag_store.pgvector.session import Connection

_PAGE = """
WITH d AS (SELECT * FROM {document} WHERE doc_id > %s ORDER BY doc_id LIMIT %s)
SELECT {columns}, c.dense, c.late, d.* FROM d LEFT JOIN {chunk} AS c USING (doc_id)
ORDER BY d.doc_id, c.ordinal
"""


async def page(
    connection: Connection, names: TenantNames, key: str, after: str, size: int
) -> list[tuple[Document, list[EmbeddedChunk]]]:
    """The next `size` documents after the id `after`, with their chunks, from one snapshot."""
    query = sql.SQL(_PAGE).format(columns=CHUNK_COLUMNS, **names.tables(key))
    rows: list[tuple[Any, ...]] = await (await connection.execute(query, [after, size])).fetchall()
    pages: dict[str, tuple[Document, list[EmbeddedChunk]]] = {}
    for row in rows:
        document = Document(*row[10:])
        _, chunks = pages.setdefault(document.doc_id, (document, []))
        if row[0] is not None:
            chunks.append(EmbeddedChunk(chunk_of(row), row[8].to_numpy(), row[9]))
    return list(pages.values())
