"""One writer at a time, by an advisory lock: the database frees it with its holder's session.

It needs a session: through a pooler that changes servers between transactions it locks nothing.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from psycopg.errors import LockNotAvailable

from rag_store.base import IndexBusyError, Lease, StoreError, StoreUnavailableError
from rag_store.pgvector.errors import translated
from rag_store.pgvector.names import TenantNames
from rag_store.pgvector.session import Connection, Sessions

WAIT = "2s"  # the session of a killed holder ends a moment after it
_SETTINGS = {
    "lock_timeout": WAIT,
    "statement_timeout": "0",
    "idle_session_timeout": "0",
    # A holder whose machine is gone is noticed after a minute, not after the system's two hours.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
_SET = "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS _(name, value)"
# The role holds for this statement only; who may not take it may not lock the tenant either.
_LOCK = "SELECT set_config('role', %s, true), pg_advisory_lock(hashtextextended(%s, 0))"
_HOLDER = """
SELECT pid, host(client_addr), to_char(backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')
FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND datname = current_database()
  AND (classid::bigint << 32 | objid::bigint) = hashtextextended(%s, 0)
"""


class SessionLock:
    """Implements `Lease`: held for as long as its session is there."""

    def __init__(self, connection: Connection, tenant: str) -> None:
        self._connection, self._tenant = connection, tenant

    async def check(self) -> None:
        """Raise `StoreUnavailableError` when the session is gone."""
        try:
            with translated(self._tenant):
                await self._connection.execute("SELECT 1")
        except StoreError as error:
            raise StoreUnavailableError(
                f"tenant {self._tenant!r}: the session that kept its index for this writer is gone, "
                f"and another may write now: nothing more is written; run again ({error})"
            ) from error


@asynccontextmanager
async def exclusive(sessions: Sessions, names: TenantNames) -> AsyncIterator[Lease]:
    """Hold the tenant's index inside the block; raises `IndexBusyError` when another does."""
    with translated(names.tenant):
        connection = await sessions.connect()
    try:
        with translated(names.tenant):
            await _lock(connection, names)
        yield SessionLock(connection, names.tenant)
    finally:
        await connection.close()


async def _lock(connection: Connection, names: TenantNames) -> None:
    await connection.execute(_SET, [list(_SETTINGS), list(_SETTINGS.values())])
    key = f"writer of {names.schema}"
    try:
        await connection.execute(_LOCK, [names.writer, key])
    except LockNotAvailable as error:
        holder = await (await connection.execute(_HOLDER, [key])).fetchone()
        raise IndexBusyError(
            f"tenant {names.tenant!r}: {_described(holder)} writes its index; wait for it to end"
        ) from error


def _described(holder: tuple[int, str | None, str] | None) -> str:
    if holder is None:
        return "another session"
    pid, address, since = holder
    return f"another session (backend {pid} from {address or 'this machine'} since {since} UTC)"
