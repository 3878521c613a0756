"""Reading a foreign tenant's chunks past the API, in SQL with the services' logins."""

from collections.abc import Iterator, Sequence

import psycopg
from psycopg import sql

from conformance.corpora.prepare import SMALL_TENANT, TENANT
from conformance.gate import Context, ProbeError
from conformance.gates.data._store.attempt import Attempt
from conformance.gates.data._store.pgvector.faults import active_generation
from rag_store.pgvector.names import TenantNames


def through_sql(context: Context) -> Iterator[Attempt]:
    """The services' own logins, bare and under the small tenant's role."""
    for login in ("reader", "writer"):
        small = TenantNames(SMALL_TENANT)
        role = small.reader if login == "reader" else small.writer
        with context.target.sql(login) as connection:
            chunks = _chunks_of_the_large_tenant(context, login)
            for way, before in (
                ("bare", ()),
                ("as the small tenant", (sql.SQL("SET ROLE {}").format(sql.Identifier(role)),)),
            ):
                yield _select(connection, f"sql {login} {way}", before, chunks)


def _chunks_of_the_large_tenant(context: Context, login: str) -> sql.Composable:
    """The table's name; raises `ProbeError` when it holds nothing that could leak."""
    names = TenantNames(TENANT)
    with context.target.sql(login) as connection:
        role = names.reader if login == "reader" else names.writer
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        chunks = names.tables(active_generation(connection))["chunk"]
        if connection.execute(_ANY.format(chunks)).fetchone() is None:
            raise ProbeError(f"tenant {TENANT} has no chunk in its index")
        return chunks


_ANY = sql.SQL("SELECT chunk_id FROM {} LIMIT 1")


def _select(
    connection: psycopg.Connection[tuple[object, ...]],
    way: str,
    before: Sequence[sql.Composed],
    chunks: sql.Composable,
) -> Attempt:
    try:
        with connection.transaction(force_rollback=True):
            for statement in before:
                connection.execute(statement)
            row = connection.execute(_ANY.format(chunks)).fetchone()
    except psycopg.errors.InsufficientPrivilege as error:
        return Attempt(way, False, str(error).splitlines()[0])
    return Attempt(way, row is not None, f"read {row}")
