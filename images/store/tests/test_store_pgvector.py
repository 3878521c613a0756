"""What only PostgreSQL promises: isolation by roles, rotation, index use, honest statistics."""

import asyncio
import json
import shutil
import uuid

import numpy as np
import psycopg
import pytest
from psycopg import errors, sql

from rag_common.files import Credentials, read_credentials, write_atomic
from rag_store import open_admin, open_store
from rag_store.base import (
    EmbeddingModel,
    HnswParameters,
    SearchMode,
    StoreError,
    StoreUnavailableError,
)
from rag_store.bm25 import query_terms
from rag_store.checks import generation_id
from rag_store.fusion import rank
from rag_store.pgvector import PgvectorStore, bootstrap
from rag_store.pgvector.names import TenantNames
from rag_store.pgvector.queries import SEARCH_SETTINGS, SearchPlan, search_settings

DIMENSION = 32
WIDE = EmbeddingModel("wide", "sha256:wide", DIMENSION)


def _login(database, name):
    login = read_credentials(database.credentials[name])
    return psycopg.connect(
        database.url, user=login.username, password=login.password, autocommit=True
    )


@pytest.fixture
async def pg(database):
    """Opens a store as a login; closes it at the end."""
    opened = []

    def make(login="rag_writer", **options):
        opened.append(PgvectorStore(database.url, database.credentials[login], **options))
        return opened[-1]

    yield make
    for store in opened:
        await store.close()


@pytest.fixture
async def tenants(database):
    admin = open_admin(database.url, database.credentials["rag_admin"])
    names = [f"t-{uuid.uuid4().hex[:8]}" for _ in range(2)]
    for name in names:
        await admin.provision(name)
    yield names
    for name in names:
        await admin.deprovision(name)


def _attempt(connection, role, statement):
    with connection.transaction():
        if role:
            connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
        return connection.execute(statement).fetchall()


@pytest.mark.parametrize("login", ["rag_reader", "rag_writer", "rag_admin"])
async def test_a_login_by_itself_sees_nothing(database, tenants, pg, data, login):
    await data.fill(pg(), tenants[0], 1)
    schema = TenantNames(tenants[0]).schema
    table = f"{schema}.document_{generation_id(data.model)}"
    with _login(database, login) as connection:
        for statement in (f"SELECT * FROM {table}", f"SELECT * FROM {schema}.generation"):
            with pytest.raises(errors.InsufficientPrivilege):
                _attempt(connection, None, statement)
        owned = "SELECT relname FROM pg_class WHERE relowner = current_user::regrole"
        assert _attempt(connection, None, owned) == []


@pytest.mark.parametrize("login", ["rag_reader", "rag_writer"])
def test_no_login_becomes_admin_or_superuser(database, login):
    with _login(database, login) as connection:
        for role in ("postgres", "rag_admin", "pg_read_all_data"):
            with pytest.raises(errors.InsufficientPrivilege):
                _attempt(connection, role, "SELECT 1")
        for statement in ("CREATE SCHEMA mine", "CREATE ROLE mine", "CREATE TEMP TABLE t (a int)"):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(statement)
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("CREATE TABLE public.mine (a int)")


async def test_a_tenants_role_cannot_reach_another_tenant(database, tenants, pg, data):
    for tenant in tenants:
        await data.fill(pg(), tenant, 1)
    mine, theirs = (TenantNames(tenant) for tenant in tenants)
    key = generation_id(data.model)
    with _login(database, "rag_writer") as connection:
        for role in (mine.reader, mine.writer):
            assert _attempt(connection, role, f"SELECT count(*) FROM {mine.schema}.chunk_{key}")
            for statement in (
                f"SELECT * FROM {theirs.schema}.chunk_{key}",
                f"DELETE FROM {theirs.schema}.chunk_{key}",
                f"DROP SCHEMA {theirs.schema} CASCADE",
                f"CREATE TABLE {theirs.schema}.mine (a int)",
            ):
                with pytest.raises(errors.InsufficientPrivilege):
                    _attempt(connection, role, statement)


async def test_a_reader_cannot_write(database, tenants, pg, data):
    key = await data.fill(pg(), tenants[0], 1)
    names = TenantNames(tenants[0])
    with _login(database, "rag_reader") as connection:
        with pytest.raises(errors.InsufficientPrivilege):
            _attempt(connection, names.writer, "SELECT 1")
        for statement in (
            f"DELETE FROM {names.schema}.chunk_{key}",
            f"CREATE TABLE {names.schema}.mine (a int)",
            f"UPDATE {names.schema}.generation SET state = 'retired'",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                _attempt(connection, names.reader, statement)
    reader = pg("rag_reader")
    for call in (
        reader.upsert(tenants[0], key, data.document("d"), []),
        reader.ensure_generation(tenants[0], data.other),
        reader.optimize(tenants[0], key),
    ):
        with pytest.raises(StoreError, match="may not"):
            await call


async def test_the_role_ends_with_the_transaction(tenants, pg, data):
    store = pg(pool_size=1)
    key = await data.fill(store, tenants[0], 1)
    await store.optimize(tenants[0], key)
    await store.search(tenants[0], "policy", data.vector(1))
    async with store._sessions.connection() as connection:
        row = await (await connection.execute("SELECT current_user, session_user")).fetchone()
    assert row == ("rag_writer", "rag_writer")


async def test_a_cancelled_search_leaves_no_role_behind(tenants, pg, data):
    store = pg(pool_size=1)
    await data.fill(store, tenants[0], 6)
    for turn in range(20):
        search = asyncio.create_task(store.search(tenants[0], "policy", data.vector(1)))
        await asyncio.sleep(turn / 4000)
        search.cancel()
        await asyncio.gather(search, return_exceptions=True)
        async with store._sessions.connection() as connection:
            row = await (await connection.execute("SELECT current_user")).fetchone()
        assert row == ("rag_writer",)
    assert await store.search(tenants[0], "policy", data.vector(1))


@pytest.mark.parametrize("mode", SearchMode)
async def test_equal_scores_are_ranked_as_every_store_ranks_them(tenants, pg, data, mode):
    store, generation = pg(), await pg().ensure_generation(tenants[0], data.model)
    for doc_id in ("b", "B", "ä", "a-1", "a1", "_", "Z"):
        texts = ["security policy", "security policy", "holiday policy"]
        chunks = data.chunks(doc_id, *texts)  # the same vectors in every document
        await store.upsert(tenants[0], generation.id, data.document(doc_id), chunks)
    await store.activate(tenants[0], generation.id)
    query = data.vector(1)
    hits = await store.search(tenants[0], "security", query, mode=mode, limit=21)
    legs = [
        [(h.chunk.chunk_id, score) for h in hits if (score := getattr(h, leg)) is not None]
        for leg in ("dense_score", "lexical_score")
    ]
    expected = rank(*legs, mode, 21)
    assert all(len({score for _, score in leg}) < len(leg) for leg in legs if leg)
    assert any(legs)
    assert [(h.chunk.chunk_id, h.score, h.dense_rank, h.lexical_rank) for h in hits] == [
        (e.chunk_id, e.score, e.dense_rank, e.lexical_rank) for e in expected
    ]


async def test_memberships_neither_inherit_nor_administer(database, tenants):
    names = TenantNames(tenants[0])
    query = (
        "SELECT member::regrole::text, inherit_option, set_option, admin_option "
        "FROM pg_auth_members WHERE roleid = %s::regrole AND member::regrole::text LIKE 'rag_%%' "
        "AND NOT (member::regrole::text = 'rag_admin') ORDER BY 1"
    )
    with psycopg.connect(database.superuser_dsn) as connection:
        reader = connection.execute(query, [names.reader]).fetchall()
        writer = connection.execute(query, [names.writer]).fetchall()
        admin = connection.execute(
            "SELECT bool_or(inherit_option) FROM pg_auth_members "
            "WHERE roleid = ANY(%s::regrole[]) AND member = 'rag_admin'::regrole",
            [[names.reader, names.writer]],
        ).fetchone()
    assert reader == [("rag_reader", False, True, False), ("rag_writer", False, True, False)]
    assert writer == [("rag_writer", False, True, False)]
    assert admin == (False,)


def test_passwords_are_scram_and_bootstrap_is_idempotent(database):
    logins = [read_credentials(path) for path in database.credentials.values()]
    bootstrap(database.superuser_dsn, logins)
    with psycopg.connect(database.superuser_dsn) as connection:
        rows = connection.execute(
            "SELECT rolpassword, rolsuper, rolinherit FROM pg_authid WHERE rolname LIKE 'rag_%'"
        ).fetchall()
    assert len(rows) == 3
    for password, superuser, inherits in rows:
        assert password.startswith("SCRAM-SHA-256$")
        assert (superuser, inherits) == (False, False)


async def test_credentials_rotate_without_a_restart(database, tenants, pg, data, tmp_path):
    old = read_credentials(database.credentials["rag_reader"])
    path = tmp_path / "reader.json"
    shutil.copy(database.credentials["rag_reader"], path)
    await data.fill(pg(), tenants[0], 1)
    store = PgvectorStore(database.url, path)
    try:
        assert await store.search(tenants[0], "policy", data.vector(1))
        others = [read_credentials(database.credentials[n]) for n in ("rag_writer", "rag_admin")]
        new = Credentials("rag_reader", "rotated")
        bootstrap(database.superuser_dsn, [new, *others])
        write_atomic(path, json.dumps(new._asdict()).encode())
        with psycopg.connect(database.superuser_dsn, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE usename = 'rag_reader'"
            )
        assert await store.search(tenants[0], "policy", data.vector(1))
    finally:
        bootstrap(database.superuser_dsn, [old, *others])
        await store.close()


async def test_a_wrong_password_or_no_file_is_unavailable(database, tmp_path, monkeypatch):
    monkeypatch.setattr("rag_store.pgvector.session.CONNECT_SECONDS", 0.5)
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps({"username": "rag_reader", "password": "wrong"}))
    for path in (wrong, tmp_path / "absent.json"):
        store = PgvectorStore(database.url, path)
        with pytest.raises(StoreUnavailableError):
            await store.ping()
        await store.close()
        with pytest.raises(StoreUnavailableError):
            await open_admin(database.url, path).provision("acme")


async def test_a_closed_store_is_unavailable(pg):
    store = pg()
    await store.ping()
    await store.close()
    with pytest.raises(StoreUnavailableError):
        await store.ping()


async def test_statements_are_limited_in_time(tenants, pg, data):
    store = pg(statement_seconds=0.05)
    names = TenantNames(tenants[0])
    with pytest.raises(StoreUnavailableError, match="timeout"):
        async with store._sessions.acting_as(names.reader, tenants[0]) as connection:
            await connection.execute("SELECT pg_sleep(5)")


async def test_a_text_that_postgresql_cannot_hold_is_an_error_of_ours(tenants, pg, data):
    generation = await data.fill(pg(), tenants[0], 0)
    bad = data.document("d", uri="lone surrogate \ud800")
    with pytest.raises(StoreError):
        await pg().upsert(tenants[0], generation, bad, [])


def _clustered(count, seed, clusters=40):
    draw = np.random.default_rng(seed)
    centres = np.random.default_rng(1).normal(size=(clusters, DIMENSION))
    points = centres[draw.integers(clusters, size=count)] + 0.5 * draw.normal(
        size=(count, DIMENSION)
    )
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


async def _load(store, tenant, data, vectors, per_document=100):
    generation = await store.ensure_generation(tenant, WIDE)
    for first in range(0, len(vectors), per_document):
        doc_id = f"d{first:05}"
        block = vectors[first : first + per_document]
        texts = [
            f"topic{(first + n) % 97} word{(first * 7 + n) % 1009} common"
            for n in range(len(block))
        ]
        chunks = data.chunks(doc_id, *texts)
        pairs = zip(chunks, block, strict=True)
        embedded = [type(item)(item.chunk, vector, b"x" * 3000) for item, vector in pairs]
        await store.upsert(tenant, generation.id, data.document(doc_id), embedded)
    return generation.id


async def _recall(store, tenant, queries, k=10):
    recalls = []
    for query in queries:
        options = {"mode": SearchMode.DENSE, "limit": k}
        exact = await store.search(tenant, "", query, exact=True, **options)
        found = await store.search(tenant, "", query, **options)
        ids = {hit.chunk.chunk_id for hit in exact}
        recalls.append(len(ids & {hit.chunk.chunk_id for hit in found}) / len(ids))
    return float(np.mean(recalls))


def _nodes(plan):
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)


async def _explain(store, names, key, mode, exact=False):
    """The plan of a search as the service runs it: its login, the tenant's role, its settings."""
    text = SearchPlan(mode, 20, exact, False).statement(names.tables(key)).as_string()
    text = text.replace("%(dense)b", "$1").replace("%(terms)b", "$2")
    values = [_clustered(1, 9)[0].tolist(), query_terms("topic5 word12")]
    async with store._sessions.acting_as(names.reader, names.tenant) as connection:
        await connection.execute(
            SEARCH_SETTINGS, search_settings(HnswParameters(), 20, exact=exact)
        )
        # Prepared as a search is, or the plan would be this query's own.
        await connection.execute(f"PREPARE search (vector, integer[]) AS {text}")
        explain = "EXPLAIN (FORMAT JSON) EXECUTE search ({}::float4[]::vector, {})"
        row = await (await connection.execute(sql.SQL(explain).format(*values))).fetchone()
        await connection.execute("DEALLOCATE search")
    return {
        (node["Node Type"], node["Index Name"])
        for node in _nodes(row[0][0]["Plan"])
        if "Index Name" in node
    }


async def test_indexes_are_used_and_stay_good(tenants, pg, data):
    """One load of 2,000 chunks, and everything that needs a real index."""
    large, small = tenants
    writer, reader = pg(), pg("rag_reader")
    vectors, queries = _clustered(2000, 2), _clustered(40, 3)
    key = await _load(writer, large, data, vectors)
    await _load(writer, small, data, vectors[:20])
    with pytest.raises(StoreError, match="no valid HNSW index"):
        await reader.hnsw(large, key)
    for tenant in tenants:
        await writer.activate(tenant, key)
        await writer.optimize(tenant, key)

    hnsw, gin = f"chunk_{key}_hnsw", f"chunk_{key}_gin"
    used = await _explain(reader, TenantNames(large), key, SearchMode.HYBRID)
    assert ("Index Scan", hnsw) in used
    assert ("Bitmap Index Scan", gin) in used
    exact = await _explain(reader, TenantNames(large), key, SearchMode.DENSE, exact=True)
    assert hnsw not in {name for _, name in exact}

    recall = {tenant: await _recall(reader, tenant, queries) for tenant in tenants}
    assert recall[large] >= 0.985
    assert recall[small] == 1.0

    await _load(writer, large, data, vectors)  # every chunk is dead once, then comes the vacuum
    hits = await reader.search(large, "", queries[0], mode=SearchMode.DENSE, limit=100)
    assert len(hits) == 100
    await writer.optimize(large, key)
    assert await _recall(reader, large, queries) >= 0.985


async def test_document_frequencies_are_what_the_chunks_hold(database, tenants, pg, data):
    store = pg()
    key = await data.fill(store, tenants[0], 8)
    await store.upsert(tenants[0], key, data.document("d03"), data.two(5)[:0])
    await asyncio.gather(
        *(store.upsert(tenants[0], key, data.document(f"d{n:02}"), data.two(n)) for n in range(6)),
        store.delete(tenants[0], key, ["d06", "d01"]),
    )
    schema = TenantNames(tenants[0]).schema
    with psycopg.connect(database.superuser_dsn) as connection:
        kept = connection.execute(
            f"SELECT term_id, chunks FROM {schema}.term_{key} WHERE chunks <> 0 ORDER BY 1"
        ).fetchall()
        counted = connection.execute(
            f"SELECT t, count(*) FROM {schema}.chunk_{key}, unnest(term_ids || 0) AS t "
            "GROUP BY t ORDER BY 1"
        ).fetchall()
    assert kept == counted
    assert len(kept) > 5


async def test_the_restarted_server_is_found_again(tenants, pg, data, database):
    store = pg("rag_reader")
    await data.fill(pg(), tenants[0], 1)
    await store.search(tenants[0], "policy", data.vector(1))
    with psycopg.connect(database.superuser_dsn, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE usename LIKE 'rag_%'"
        )
    for _ in range(5):
        assert await store.search(tenants[0], "policy", data.vector(1))


async def test_ef_search_never_cuts_the_result(tenants, pg, data):
    writer = pg(hnsw=HnswParameters(8, 32, 10))
    key = await _load(writer, tenants[0], data, _clustered(400, 4))
    await writer.activate(tenants[0], key)
    assert await writer.hnsw(tenants[0], key) == HnswParameters(8, 32, 10)
    found = await writer.search(
        tenants[0], "", _clustered(1, 5)[0], mode=SearchMode.DENSE, limit=150
    )
    assert len(found) == 150


def test_a_store_opens_without_connecting(credentials):
    assert open_store("postgresql://127.0.0.1:9/rag", credentials)
