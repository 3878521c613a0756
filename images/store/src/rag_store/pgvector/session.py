"""Connections: credentials read for each new one, one tenant role for one transaction."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from select import POLLIN, poll
from typing import Any

from pgvector.psycopg import register_vector_async
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from rag_common.files import read_credentials
from rag_store.checks import checked_url
from rag_store.pgvector.errors import translated

Connection = AsyncConnection[tuple[Any, ...]]
CONNECT_SECONDS = 5.0
LIFETIME_SECONDS = 900.0  # a rotated login is out of use after this
BEGIN = (
    "SELECT set_config('role', %(role)s, true), "
    "set_config('statement_timeout', %(milliseconds)s, true)"
)


class Sessions:
    """A pool whose transactions act as one tenant's role, and as nobody outside of one."""

    def __init__(self, url: str, credentials_file: Path, *, size: int, seconds: float) -> None:
        self._url, self._credentials_file = checked_url(url), credentials_file
        self.seconds = seconds
        self._pool = AsyncConnectionPool[Connection](
            self._url,
            kwargs=self._login,
            configure=register_vector_async,
            check=_check,
            min_size=1,
            max_size=size,
            timeout=CONNECT_SECONDS,
            max_lifetime=LIFETIME_SECONDS,
            open=False,
        )

    def _login(self) -> dict[str, Any]:
        login = read_credentials(self._credentials_file)
        return {
            "user": login.username,
            "password": login.password,
            "autocommit": True,
            "application_name": "rag-store",
            "connect_timeout": round(CONNECT_SECONDS),
        }

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()

    async def connect(self) -> Connection:
        """A connection of its own, outside the pool; the caller closes it."""
        return await AsyncConnection.connect(self._url, **self._login())

    @asynccontextmanager
    async def connection(self, tenant: str | None = None) -> AsyncIterator[Connection]:
        """A connection outside any transaction; errors inside are the store's."""
        with translated(tenant):
            if self._pool.closed:
                await self._pool.open()
            async with self._pool.connection() as connection:
                yield connection

    @asynccontextmanager
    async def acting_as(
        self, role: str, tenant: str, *, seconds: float | None = None
    ) -> AsyncIterator[Connection]:
        """One transaction as `role`; `seconds` limit each statement, 0 is no limit."""
        limit = self.seconds if seconds is None else seconds
        async with self.connection(tenant) as connection, connection.transaction():
            await connection.execute(BEGIN, settings(role, limit))
            yield connection


async def _check(connection: Connection) -> None:
    """Raise for a connection that the server has ended. Only one that has something to say is asked.

    An idle server is silent; its last words, or the end of the stream, make the socket readable.
    """
    waiting = poll()
    waiting.register(connection.fileno(), POLLIN)
    if waiting.poll(0):
        await AsyncConnectionPool.check_connection(connection)


def settings(role: str, seconds: float) -> dict[str, str]:
    """The parameters of `BEGIN`; `seconds` limit each statement."""
    return {"role": role, "milliseconds": str(round(seconds * 1000))}
