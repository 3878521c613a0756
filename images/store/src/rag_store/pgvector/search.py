"""A search in one round trip: role, settings, active generation and both legs in one pipeline."""

from functools import lru_cache
from typing import Any

from psycopg import errors

from rag_store.base import Generation, Hit, HnswParameters, StoreError
from rag_store.checks import check_model
from rag_store.pgvector import generations
from rag_store.pgvector.names import TenantNames
from rag_store.pgvector.queries import (
    BEGIN_SEARCH,
    SearchPlan,
    hit_of,
    search_settings,
    search_sql,
)
from rag_store.pgvector.session import Sessions, settings

ATTEMPTS = 5
Row = tuple[Any, ...]


class Searcher:
    """Searches active generations. Which one is active is guessed, and verified in the same trip."""

    def __init__(self, sessions: Sessions, hnsw: HnswParameters) -> None:
        self._sessions, self._hnsw = sessions, hnsw
        self._active: dict[str, str] = {}

    async def run(
        self, names: TenantNames, plan: SearchPlan, values: dict[str, Any], digest: str | None
    ) -> list[Hit]:
        """The best chunks, best first; `values` are the statement's parameters."""
        for _ in range(ATTEMPTS):
            guess = self._active.get(names.tenant) or (await self._look(names)).id
            active, rows = await self._try(names, guess, plan, values)
            check_model(active, digest, values["dense"])
            self._active[names.tenant] = active.id
            if active.id == guess:
                return [hit_of(row) for row in rows]
        raise StoreError(f"tenant {names.tenant!r}: its generations are switched too fast")

    async def _look(self, names: TenantNames) -> Generation:
        async with self._sessions.acting_as(names.reader, names.tenant) as connection:
            cursor = await connection.execute(generations.active_query(names))
            return generations.generation_of(await cursor.fetchone(), names.tenant)

    async def _try(
        self, names: TenantNames, guess: str, plan: SearchPlan, values: dict[str, Any]
    ) -> tuple[Generation, list[Row]]:
        """The active generation and what the guessed one holds, if that is another."""
        try:
            return await self._pipeline(names, guess, plan, values)
        except StoreError as error:
            # A wrong guess may have been dropped, or have another dimension.
            if not isinstance(error.__cause__, errors.UndefinedTable | errors.DataException):
                raise
            active = await self._look(names)
            check_model(active, None, values["dense"])
            if active.id == guess:
                raise
            return active, []

    async def _pipeline(
        self, names: TenantNames, guess: str, plan: SearchPlan, values: dict[str, Any]
    ) -> tuple[Generation, list[Row]]:
        options = settings(names.reader, self._sessions.seconds)
        options |= search_settings(self._hnsw, plan.limit, exact=plan.exact)
        async with self._sessions.connection(names.tenant) as connection:
            # Without BEGIN a pipeline is one transaction, which the role does not outlive.
            async with connection.pipeline():
                await connection.execute(BEGIN_SEARCH, options)
                active = await connection.execute(_active_sql(names))
                statement = search_sql(plan, names, guess)
                found = await connection.execute(statement, values, binary=True)
            row = await active.fetchone()
            return generations.generation_of(row, names.tenant), await found.fetchall()


@lru_cache(maxsize=1024)
def _active_sql(names: TenantNames) -> bytes:
    return generations.active_query(names).as_bytes()
