"""Faults in a tenant's PostgreSQL index, planted as the tenant's own writer and taken back."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

from conformance.corpora.prepare import TENANT
from conformance.gate import Context, ProbeError
from conformance.gates.data._store.base import DECLARED
from rag_store.base import HnswParameters
from rag_store.pgvector.names import TenantNames
from rag_store.pgvector.schema import HNSW_INDEX, dense_index

Connection = psycopg.Connection[tuple[Any, ...]]


@contextmanager
def owner(context: Context, tenant: str = TENANT) -> Iterator[Connection]:
    """A connection that has taken the role which owns the tenant's schema."""
    with context.target.sql("writer") as connection:
        role = sql.Identifier(TenantNames(tenant).writer)
        connection.execute(sql.SQL("SET ROLE {}").format(role))
        yield connection


def active_generation(connection: Connection, tenant: str = TENANT) -> str:
    """Id of the tenant's active generation; raises `ProbeError` when there is none."""
    table = TenantNames(tenant).table("generation")
    query = sql.SQL("SELECT id FROM {} WHERE state = 'active'").format(table)
    row = connection.execute(query).fetchone()
    if row is None:
        raise ProbeError(f"tenant {tenant} has no active generation")
    return str(row[0])


def build(connection: Connection, parameters: HnswParameters, tenant: str = TENANT) -> None:
    """Drop the tenant's HNSW index and build it with `parameters`."""
    names, generation = TenantNames(tenant), active_generation(connection, tenant)
    index = dense_index(generation)
    qualified = sql.SQL("{}.{}").format(sql.Identifier(names.schema), index)
    with connection.transaction():
        connection.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(qualified))
        connection.execute(
            sql.SQL(HNSW_INDEX).format(
                dense_index=index,
                m=sql.Literal(parameters.m),
                ef_construction=sql.Literal(parameters.ef_construction),
                **names.tables(generation),
            )
        )


@contextmanager
def rebuilt_with(context: Context, parameters: HnswParameters) -> Iterator[None]:
    """Inside the block the index has other parameters; afterwards the declared ones."""
    with owner(context) as connection:
        try:
            build(connection, parameters)
            yield
        finally:
            build(connection, DECLARED)


@contextmanager
def mismatched(context: Context) -> Iterator[None]:
    """Inside the block every chunk has the token vectors of another one."""
    with owner(context) as connection:
        chunks = TenantNames(TENANT).tables(active_generation(connection))["chunk"]
        _mirror(connection, chunks)
        try:
            yield
        finally:
            _mirror(connection, chunks)


def _mirror(connection: Connection, chunks: sql.Identifier) -> None:
    """Give the n-th chunk the token vectors of the n-th last; done twice it changes nothing."""
    if not connection.execute(sql.SQL(_MIRROR).format(chunk=chunks)).rowcount:
        raise ProbeError("the index holds no token vectors to rerank by")
    connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(chunks))


_MIRROR = """
WITH numbered AS (
    SELECT doc_id, ordinal, late, row_number() OVER forwards AS n, row_number() OVER backwards AS m
    FROM {chunk} WHERE late IS NOT NULL
    WINDOW forwards AS (ORDER BY doc_id, ordinal),
        backwards AS (ORDER BY doc_id DESC, ordinal DESC)
)
UPDATE {chunk} AS c SET late = other.late
FROM numbered AS own JOIN numbered AS other ON own.n = other.m
WHERE c.doc_id = own.doc_id AND c.ordinal = own.ordinal AND own.n <> other.n
"""


@contextmanager
def locked(context: Context, *, seconds: float = 0.3) -> Iterator[None]:
    """Inside the block another session locks the chunks for `seconds` before every search.

    Locks are granted in the order asked for: it queues again as soon as it has let one search in.
    """
    done = threading.Event()
    with owner(context) as connection, ThreadPoolExecutor(1) as pool:
        chunks = TenantNames(TENANT).tables(active_generation(connection))["chunk"]
        statement = sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(chunks)

        def hold() -> None:
            while not done.is_set():
                with connection.transaction():
                    connection.execute(statement)
                    done.wait(seconds)

        holding = pool.submit(hold)
        try:
            yield
        finally:
            done.set()
            holding.result()  # raises what kept it from locking


@contextmanager
def losing(context: Context, tenant: str, doc_id: str) -> Iterator[None]:
    """A trigger swallows one document's chunks, as a faulty replica or a full disk might."""
    names = TenantNames(tenant)
    with owner(context, tenant) as connection:
        chunk = names.tables(active_generation(connection, tenant))["chunk"]
        function = names.table("lose")
        parts = {"function": function, "chunk": chunk, "doc_id": sql.Literal(doc_id)}
        connection.execute(sql.SQL(_LOSE).format(**parts))
        try:
            yield
        finally:
            connection.execute(sql.SQL(_KEEP).format(**parts))


_LOSE = """
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN IF NEW.doc_id = {doc_id} THEN RETURN NULL; END IF; RETURN NEW; END $$;
CREATE OR REPLACE TRIGGER lose BEFORE INSERT ON {chunk}
    FOR EACH ROW EXECUTE FUNCTION {function}();
"""
_KEEP = "DROP TRIGGER IF EXISTS lose ON {chunk}; DROP FUNCTION IF EXISTS {function}()"


@contextmanager
def forgetting(context: Context) -> Iterator[None]:
    """The writer's commits are acknowledged before they are on disk."""
    with context.target.sql("writer") as connection:
        connection.execute("ALTER ROLE CURRENT_USER SET synchronous_commit = off")
    try:
        yield
    finally:
        with context.target.sql("writer") as connection:
            connection.execute("ALTER ROLE CURRENT_USER RESET synchronous_commit")


@contextmanager
def opened(context: Context, large: str) -> Iterator[None]:
    """The tenant's schema is open to everybody."""
    names = TenantNames(large)
    with owner(context, large) as connection:
        chunk = names.tables(active_generation(connection, large))["chunk"]
        parts = {"schema": sql.Identifier(names.schema), "chunk": chunk}
        try:
            connection.execute(sql.SQL(_OPEN).format(**parts))
            yield
        finally:
            connection.execute(sql.SQL(_CLOSE).format(**parts))


_OPEN = "GRANT USAGE ON SCHEMA {schema} TO PUBLIC; GRANT SELECT ON {chunk} TO PUBLIC"
_CLOSE = "REVOKE USAGE ON SCHEMA {schema} FROM PUBLIC; REVOKE SELECT ON {chunk} FROM PUBLIC"
