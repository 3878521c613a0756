"""A tenant's generations: made, indexed, switched, dropped."""

from typing import Any

from psycopg import sql

from rag_store.base import (
    EmbeddingModel,
    Generation,
    GenerationState,
    HnswParameters,
    NoActiveGenerationError,
    StoreError,
)
from rag_store.checks import generation_id
from rag_store.pgvector.names import TenantNames
from rag_store.pgvector.schema import GENERATION_TABLES, HNSW_INDEX, dense_index, lexical_index
from rag_store.pgvector.session import Connection

BUILD_MEMORY = "256MB"  # a graph that fits is built in memory, the rest on disk
_COLUMNS = "SELECT id, model_name, model_digest, dimension, state FROM {generation} "


def _query(names: TenantNames, text: str) -> sql.Composed:
    return sql.SQL(text).format(generation=names.table("generation"))


def active_query(names: TenantNames) -> sql.Composed:
    """The statement whose row is the active generation."""
    return _query(names, _COLUMNS + "WHERE state = 'active'")


def generation_of(row: tuple[Any, ...] | None, tenant: str) -> Generation:
    """The generation in a row; raises `NoActiveGenerationError` when there is none."""
    if row is None:
        raise NoActiveGenerationError(f"tenant {tenant!r} has no active generation")
    return Generation(row[0], EmbeddingModel(*row[1:4]), GenerationState(row[4]))


async def all_generations(connection: Connection, names: TenantNames) -> list[Generation]:
    """All of them, oldest first."""
    cursor = await connection.execute(_query(names, _COLUMNS + "ORDER BY number"))
    return [generation_of(row, names.tenant) for row in await cursor.fetchall()]


async def find(connection: Connection, names: TenantNames, key: str) -> Generation:
    """The generation with this id; raises `StoreError`."""
    cursor = await connection.execute(_query(names, _COLUMNS + "WHERE id = %s"), [key])
    if (row := await cursor.fetchone()) is None:
        raise StoreError(f"tenant {names.tenant!r} has no generation {key!r}")
    return generation_of(row, names.tenant)


async def create(connection: Connection, names: TenantNames, model: EmbeddingModel) -> Generation:
    """The generation of `model`, with its tables; another dimension is refused."""
    key = generation_id(model)
    insert = (
        "INSERT INTO {generation} (id, model_name, model_digest, dimension) "
        "VALUES (%s, %s, %s, %s) ON CONFLICT (id) DO NOTHING"
    )
    values = (key, model.name, model.digest, model.dimension)
    cursor = await connection.execute(_query(names, insert), values)
    if cursor.rowcount:
        tables = sql.SQL(GENERATION_TABLES).format(
            dimension=sql.Literal(model.dimension),
            lexical_index=lexical_index(key),
            **names.tables(key),
        )
        await connection.execute(tables)
    found = await find(connection, names, key)
    if found.model.dimension != model.dimension:
        raise StoreError(f"model {model.digest} has dimension {found.model.dimension} here")
    return found


async def build_index(
    connection: Connection, names: TenantNames, key: str, hnsw: HnswParameters
) -> None:
    """Build the HNSW index unless it is there: after the bulk load, which is several times faster."""
    await connection.execute("SELECT set_config('maintenance_work_mem', %s, true)", [BUILD_MEMORY])
    await connection.execute(
        sql.SQL(HNSW_INDEX).format(
            dense_index=dense_index(key),
            m=sql.Literal(hnsw.m),
            ef_construction=sql.Literal(hnsw.ef_construction),
            **names.tables(key),
        )
    )


async def switch(connection: Connection, names: TenantNames, key: str) -> None:
    """Make it the active one, in this transaction."""
    retire = "UPDATE {generation} SET state = 'retired' WHERE state = 'active' AND id <> %s"
    await connection.execute(_query(names, retire), [key])
    activate = "UPDATE {generation} SET state = 'active' WHERE id = %s"
    cursor = await connection.execute(_query(names, activate), [key])
    if not cursor.rowcount:
        raise StoreError(f"tenant {names.tenant!r} has no generation {key!r}")


async def drop(connection: Connection, names: TenantNames, key: str) -> None:
    """Remove it with its tables; raises `StoreError` when it is active or unknown."""
    delete = "DELETE FROM {generation} WHERE id = %s AND state <> 'active'"
    cursor = await connection.execute(_query(names, delete), [key])
    if not cursor.rowcount:
        raise StoreError(f"tenant {names.tenant!r}: generation {key!r} is active or unknown")
    tables = sql.SQL("DROP TABLE {document}, {chunk}, {term}").format(**names.tables(key))
    await connection.execute(tables)


async def index_options(connection: Connection, names: TenantNames, key: str) -> dict[str, int]:
    """The live HNSW index's options; raises `StoreError` when it has not been built or is broken."""
    cursor = await connection.execute(
        "SELECT c.reloptions FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
        "JOIN pg_am a ON a.oid = c.relam "
        "WHERE i.indrelid = to_regclass(%s) AND a.amname = 'hnsw' AND i.indisvalid",
        [names.tables(key)["chunk"].as_string()],
    )
    if (row := await cursor.fetchone()) is None:
        raise StoreError(
            f"tenant {names.tenant!r}: generation {key} has no valid HNSW index; optimize it"
        )
    return {name: int(value) for name, value in (item.split("=") for item in row[0] or [])}
