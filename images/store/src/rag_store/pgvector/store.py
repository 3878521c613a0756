"""The data plane on PostgreSQL."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import numpy as np
from psycopg import sql

from rag_store.base import (
    Counts,
    Document,
    EmbeddedChunk,
    EmbeddingModel,
    Generation,
    Hit,
    HnswParameters,
    Lease,
    SearchMode,
    SyncState,
    Vector,
)
from rag_store.bm25 import query_terms
from rag_store.checks import check_chunks, check_query
from rag_store.pgvector import generations
from rag_store.pgvector.lock import exclusive
from rag_store.pgvector.names import PREFIX, TenantNames, tenant_of
from rag_store.pgvector.queries import SEARCH_SETTINGS, SearchPlan, search_settings
from rag_store.pgvector.scan import page
from rag_store.pgvector.search import Searcher
from rag_store.pgvector.session import Connection, Sessions
from rag_store.pgvector.writes import remove_documents, replace_document

POOL_SIZE = 16
STATEMENT_SECONDS = 10.0
SCAN_SECONDS = 300.0
_Transaction = AbstractAsyncContextManager[Connection]


class PgvectorStore:
    """A `VectorStore`. `url` names host and database only, `credentials_file` the login.

    Reads take the tenant's reader role, writes its writer role; a login that is no member of
    it is refused by the database.
    """

    def __init__(
        self,
        url: str,
        credentials_file: Path,
        *,
        hnsw: HnswParameters | None = None,
        pool_size: int = POOL_SIZE,
        statement_seconds: float = STATEMENT_SECONDS,
    ) -> None:
        self._hnsw = hnsw or HnswParameters()
        self._sessions = Sessions(url, credentials_file, size=pool_size, seconds=statement_seconds)
        self._searcher = Searcher(self._sessions, self._hnsw)

    async def close(self) -> None:
        """Close the connections."""
        await self._sessions.close()

    async def ping(self) -> None:
        """Raise `StoreUnavailableError` unless the database answers."""
        async with self._sessions.connection() as connection:
            await connection.execute("SELECT 1")

    def _reading(self, names: TenantNames, seconds: float | None = None) -> _Transaction:
        return self._sessions.acting_as(names.reader, names.tenant, seconds=seconds)

    def _writing(self, names: TenantNames, seconds: float | None = None) -> _Transaction:
        return self._sessions.acting_as(names.writer, names.tenant, seconds=seconds)

    async def tenants(self) -> list[str]:
        """Names of the provisioned tenants, sorted."""
        query = "SELECT nspname FROM pg_namespace WHERE starts_with(nspname, %s)"
        async with self._sessions.connection() as connection:
            cursor = await connection.execute(query, [PREFIX])
            return sorted(tenant_of(name) for (name,) in await cursor.fetchall())

    async def generations(self, tenant: str) -> list[Generation]:
        """All generations, oldest first."""
        names = TenantNames(tenant)
        async with self._reading(names) as connection:
            return await generations.all_generations(connection, names)

    async def active_generation(self, tenant: str) -> Generation:
        """The active one; raises `NoActiveGenerationError`."""
        names = TenantNames(tenant)
        async with self._reading(names) as connection:
            cursor = await connection.execute(generations.active_query(names))
            return generations.generation_of(await cursor.fetchone(), tenant)

    async def ensure_generation(self, tenant: str, model: EmbeddingModel) -> Generation:
        """The generation of `model`, made if there is none."""
        names = TenantNames(tenant)
        async with self._writing(names) as connection:
            return await generations.create(connection, names, model)

    async def activate(self, tenant: str, generation_id: str) -> None:
        """Index it if that is still to do, then make it the active one in one step."""
        names = TenantNames(tenant)
        async with self._writing(names, seconds=0) as connection:
            await generations.find(connection, names, generation_id)
            await generations.build_index(connection, names, generation_id, self._hnsw)
        async with self._writing(names) as connection:
            await generations.switch(connection, names, generation_id)

    async def drop_generation(self, tenant: str, generation_id: str) -> None:
        """Remove a generation that is not active."""
        names = TenantNames(tenant)
        async with self._writing(names) as connection:
            await generations.drop(connection, names, generation_id)

    def exclusive(self, tenant: str) -> AbstractAsyncContextManager[Lease]:
        """The index to oneself, by an advisory lock; raises `IndexBusyError`."""
        return exclusive(self._sessions, TenantNames(tenant))

    async def documents(self, tenant: str, generation_id: str) -> dict[str, Document]:
        """Documents of the generation, by doc_id."""
        names = TenantNames(tenant)
        query = sql.SQL(
            "SELECT doc_id, uri, title, content_hash, modified_at, metadata FROM {document}"
        )
        async with self._reading(names, seconds=SCAN_SECONDS) as connection:
            cursor = await connection.execute(query.format(**names.tables(generation_id)))
            return {row[0]: Document(*row) for row in await cursor.fetchall()}

    async def upsert(
        self, tenant: str, generation_id: str, document: Document, chunks: Sequence[EmbeddedChunk]
    ) -> None:
        """Replace the document and its chunks in one transaction."""
        names = TenantNames(tenant)
        async with self._writing(names) as connection:
            found = await generations.find(connection, names, generation_id)
            check_chunks(document.doc_id, chunks, found.model.dimension)
            await replace_document(connection, names.tables(generation_id), document, chunks)

    async def delete(self, tenant: str, generation_id: str, doc_ids: Sequence[str]) -> None:
        """Remove documents and their chunks in one transaction."""
        names = TenantNames(tenant)
        async with self._writing(names) as connection:
            await remove_documents(connection, names.tables(generation_id), doc_ids)

    async def optimize(self, tenant: str, generation_id: str) -> None:
        """Build the HNSW index if that is still to do; vacuum and analyze."""
        names = TenantNames(tenant)
        async with self._writing(names, seconds=0) as connection:
            await generations.find(connection, names, generation_id)
            await generations.build_index(connection, names, generation_id, self._hnsw)
        async with self._sessions.connection(tenant) as connection:
            await self._vacuum(connection, names, generation_id)

    async def _vacuum(self, connection: Connection, names: TenantNames, key: str) -> None:
        # VACUUM cannot run in a transaction, so the role is the session's until the reset.
        await connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(names.writer)))
        try:
            for table in names.tables(key).values():
                await connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(table))
        finally:
            await connection.execute("RESET ROLE")

    async def search(
        self,
        tenant: str,
        text: str,
        dense: Vector | None,
        *,
        model_digest: str | None = None,
        mode: SearchMode = SearchMode.HYBRID,
        limit: int = 20,
        exact: bool = False,
        with_late: bool = False,
    ) -> list[Hit]:
        """The best `limit` chunks of the active generation, best first, in one round trip."""
        check_query(mode, dense, limit)
        vector = None if dense is None else np.asarray(dense, dtype=np.float32)
        return await self._searcher.run(
            TenantNames(tenant),
            SearchPlan(mode, limit, exact, with_late),
            {"terms": query_terms(text), "dense": vector},
            model_digest,
        )

    async def scan(
        self, tenant: str, generation_id: str, *, batch: int = 256
    ) -> AsyncIterator[list[tuple[Document, list[EmbeddedChunk]]]]:
        """Every document with its chunks, `batch` documents at a time."""
        names, last = TenantNames(tenant), ""
        while True:
            async with self._reading(names, seconds=SCAN_SECONDS) as connection:
                found = await page(connection, names, generation_id, last, batch)
            if not found:
                return
            yield found
            last = found[-1][0].doc_id

    async def counts(self, tenant: str, generation_id: str) -> Counts:
        """Documents and chunks in the generation."""
        names = TenantNames(tenant)
        query = sql.SQL(
            "SELECT (SELECT count(*) FROM {document}), (SELECT count(*) FROM {chunk})"
        ).format(**names.tables(generation_id))
        async with self._reading(names, seconds=SCAN_SECONDS) as connection:
            ((documents, chunks),) = await (await connection.execute(query)).fetchall()
        return Counts(documents, chunks)

    async def hnsw(self, tenant: str, generation_id: str) -> HnswParameters:
        """The live index's options, and ef_search as a search sees it."""
        names = TenantNames(tenant)
        async with self._reading(names) as connection:
            options = await generations.index_options(connection, names, generation_id)
            await connection.execute(SEARCH_SETTINGS, search_settings(self._hnsw, 1))
            cursor = await connection.execute("SELECT current_setting('hnsw.ef_search')::int")
            (ef_search,) = await cursor.fetchone() or (0,)
        return HnswParameters(options.get("m", 16), options.get("ef_construction", 64), ef_search)

    async def record_sync(self, tenant: str, state: SyncState) -> None:
        """Remember a completed sync."""
        names = TenantNames(tenant)
        query = sql.SQL(
            "INSERT INTO {} (finished_at, newest_modified_at, documents, chunks) "
            "VALUES (%s, %s, %s, %s) ON CONFLICT (single) DO UPDATE SET "
            "(finished_at, newest_modified_at, documents, chunks) = (excluded.finished_at, "
            "excluded.newest_modified_at, excluded.documents, excluded.chunks)"
        ).format(names.table("sync"))
        values = (state.finished_at, state.newest_modified_at, state.documents, state.chunks)
        async with self._writing(names) as connection:
            await connection.execute(query, values)

    async def sync_state(self, tenant: str) -> SyncState | None:
        """The last completed sync, or None."""
        names = TenantNames(tenant)
        query = sql.SQL("SELECT finished_at, newest_modified_at, documents, chunks FROM {}").format(
            names.table("sync")
        )
        async with self._reading(names) as connection:
            row = await (await connection.execute(query)).fetchone()
        return None if row is None else SyncState(*row)
