"""Preparing a database, and giving each tenant a schema and roles of its own."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from rag_common.files import Credentials, read_credentials
from rag_store.base import StoreError
from rag_store.checks import checked_url
from rag_store.pgvector.errors import translated
from rag_store.pgvector.names import ADMIN, READER, WRITER, TenantNames
from rag_store.pgvector.schema import TENANT_TABLES
from rag_store.pgvector.session import CONNECT_SECONDS, Connection

LOGINS = (READER, WRITER, ADMIN)
BOOTSTRAP = files(__package__).joinpath("bootstrap.sql").read_text(encoding="utf-8")
_MEMBERSHIP = "GRANT {role} TO {login} WITH ADMIN FALSE, INHERIT FALSE, SET TRUE"


def bootstrap(superuser_dsn: str, credentials: Iterable[Credentials]) -> None:
    """Prepare a database: extension, the three logins, nothing open to everybody. Idempotent.

    `credentials` are those of `rag_reader`, `rag_writer` and `rag_admin`; each password is hashed
    on this side (SCRAM), so it never reaches the server's log. Raises `StoreError`.
    """
    by_name = {login.username: login for login in credentials}
    if set(by_name) != set(LOGINS):
        raise StoreError(f"bootstrap needs the credentials of {', '.join(LOGINS)}")
    with translated(), psycopg.connect(superuser_dsn) as connection:
        connection.execute(BOOTSTRAP.encode())
        for name in LOGINS:
            _set_password(connection, by_name[name])


def _set_password(connection: psycopg.Connection[Any], login: Credentials) -> None:
    name, password = login
    verifier = connection.pgconn.encrypt_password(
        password.encode(), name.encode(), b"scram-sha-256"
    ).decode()
    statement = sql.SQL("ALTER ROLE {} PASSWORD {}")
    connection.execute(statement.format(sql.Identifier(name), sql.Literal(verifier)))


class PgvectorAdmin:
    """A `StoreAdmin` with the login `rag_admin`."""

    def __init__(self, url: str, credentials_file: Path) -> None:
        self._url = checked_url(url)
        self._credentials_file = credentials_file

    async def close(self) -> None:
        """Nothing stays open between calls."""

    @asynccontextmanager
    async def _transaction(self, tenant: str) -> AsyncIterator[Connection]:
        with translated(tenant):
            login = read_credentials(self._credentials_file)
            async with await psycopg.AsyncConnection.connect(
                self._url,
                user=login.username,
                password=login.password,
                connect_timeout=round(CONNECT_SECONDS),
            ) as connection:
                # One provisioning at a time: CREATE ROLE has no IF NOT EXISTS.
                await connection.execute("SELECT pg_advisory_xact_lock(hashtext('rag_store'))")
                yield connection

    async def provision(self, tenant: str) -> None:
        """Make the schema, its roles and its tables. Idempotent."""
        names = TenantNames(tenant)
        async with self._transaction(tenant) as connection:
            await _roles(connection, names)
            parts = {key: sql.Identifier(getattr(names, key)) for key in ("schema", "reader")}
            writer = sql.Identifier(names.writer)
            await connection.execute(
                sql.SQL("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}").format(
                    parts["schema"], writer
                )
            )
            await connection.execute(sql.SQL("SET LOCAL ROLE {}").format(writer))
            await connection.execute(
                sql.SQL(
                    "GRANT USAGE ON SCHEMA {schema} TO {reader}; "
                    "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} "
                    "GRANT SELECT ON TABLES TO {reader};" + TENANT_TABLES
                ).format(**parts)
            )

    async def deprovision(self, tenant: str) -> None:
        """Drop the schema with all it holds, and its roles. Idempotent."""
        names = TenantNames(tenant)
        async with self._transaction(tenant) as connection:
            if names.writer not in await _existing(connection, names):
                return
            schema, writer, reader = (
                sql.Identifier(name) for name in (names.schema, names.writer, names.reader)
            )
            await connection.execute(sql.SQL("SET LOCAL ROLE {}").format(writer))
            await connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(schema))
            await connection.execute("RESET ROLE")
            await connection.execute(sql.SQL("DROP ROLE {}, {}").format(writer, reader))

    async def remains(self, tenant: str) -> list[str]:
        """The tenant's schema and roles, as far as they are there."""
        names = TenantNames(tenant)
        query = (
            "SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname = %s "
            "UNION SELECT 'role ' || rolname FROM pg_roles WHERE rolname IN (%s, %s) ORDER BY 1"
        )
        async with self._transaction(tenant) as connection:
            cursor = await connection.execute(query, [names.schema, names.reader, names.writer])
            return [name for (name,) in await cursor.fetchall()]


async def _existing(connection: Connection, names: TenantNames) -> set[str]:
    query = "SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)"
    cursor = await connection.execute(query, [[names.reader, names.writer]])
    return {name for (name,) in await cursor.fetchall()}


async def _roles(connection: Connection, names: TenantNames) -> None:
    existing = await _existing(connection, names)
    logins = {names.reader: (READER, WRITER), names.writer: (WRITER,)}
    for role, members in logins.items():
        if role not in existing:
            await connection.execute(
                sql.SQL("CREATE ROLE {} NOLOGIN NOINHERIT").format(sql.Identifier(role))
            )
        for login in members:
            await connection.execute(
                sql.SQL(_MEMBERSHIP).format(role=sql.Identifier(role), login=sql.Identifier(login))
            )
