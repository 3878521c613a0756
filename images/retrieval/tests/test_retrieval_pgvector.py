"""The service over a real PostgreSQL with pgvector, as the login that retrieval has."""

import asyncio
import time
from datetime import UTC, datetime

import pytest

from rag_store import open_admin, open_store
from rag_store.base import HnswParameters, SyncState
from rag_store.embedded import embedded_database

TENANTS = ("acme", "beta", "bare")


async def _fill(database, conftest):
    admin = open_admin(database.url, database.credentials["rag_admin"])
    for tenant in TENANTS:
        await admin.provision(tenant)
    await admin.close()
    writer = open_store(database.url, database.credentials["rag_writer"])
    contents = {"acme": conftest.DOCUMENTS, "beta": {"x.md": "Beta sells garden tools."}}
    for tenant, documents in contents.items():
        generation = await writer.ensure_generation(tenant, conftest.MODEL)
        for doc_id, text in documents.items():
            item = conftest.embedded(doc_id, text)
            await writer.upsert(tenant, generation.id, conftest.document(doc_id, text), [item])
        await writer.activate(tenant, generation.id)
        await writer.record_sync(tenant, SyncState(datetime.now(UTC), None, 1, 1))
    await writer.close()


@pytest.fixture(scope="module")
def database(tmp_path_factory, toy_corpus):
    with embedded_database(tmp_path_factory.mktemp("pg"), settings={"fsync": "off"}) as running:
        asyncio.run(_fill(running, toy_corpus))
        yield running


@pytest.fixture
def service(start, database):
    return start(open_store(database.url, database.credentials["rag_reader"]))


def test_hybrid_search_fills_both_legs_and_rerank_puts_the_answer_first(service):
    body = service.retrieve().json()
    first = body["results"][0]
    assert first["chunk_id"] == "leave.md#0"
    assert first["dense_rank"] == first["lexical_rank"] == 1
    assert first["lexical_score"] > 0
    assert first["uri"] == "file:///leave.md"


def test_the_metric_tells_the_ef_search_of_this_process(start, database):
    reader, hnsw = database.credentials["rag_reader"], HnswParameters(ef_search=40)
    service = start(open_store(database.url, reader, hnsw=hnsw), staleness_poll_seconds=0.1)
    end = time.monotonic() + 10
    while "rag_vectordb_hnsw_ef_search{" not in service.client.get("/metrics").text:
        assert time.monotonic() < end
        time.sleep(0.05)
    told = {
        name: service.metric(f"rag_vectordb_hnsw_{name}", tenant="acme")
        for name in ("m", "ef_construction", "ef_search")
    }
    assert told == {"m": 32, "ef_construction": 200, "ef_search": 40}
    assert 'hnsw_m{tenant="bare"}' not in service.client.get("/metrics").text


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
@pytest.mark.parametrize("exact", [True, False])
def test_every_mode_finds_it(service, mode, exact):
    found = service.retrieve(mode=mode, exact=exact, rerank=False).json()["results"]
    assert found[0]["chunk_id"] == "leave.md#0"


def test_tenants_do_not_meet(service):
    assert {r["doc_id"] for r in service.retrieve(tenant="beta").json()["results"]} == {"x.md"}


def test_an_unknown_tenant_and_one_without_an_index(service):
    assert service.retrieve(tenant="nobody").status_code == 404
    assert service.retrieve(tenant="bare").status_code == 409


def test_a_cited_answer_end_to_end(service):
    body = service.answer().json()
    assert body["status"] == "answered"
    assert body["citations"][0]["chunk_id"] == "leave.md#0"


def test_ready_and_stale_by_tenant(service):
    assert service.client.get("/readyz").status_code == 200
    deadline = time.monotonic() + 20
    never_synced = 'rag_index_staleness_hours{tenant="bare"} +Inf'
    while never_synced not in service.client.get("/metrics").text:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert service.metric("rag_index_staleness_hours", tenant="acme") < 1


def test_a_database_that_is_not_there_is_a_503(start, database, run):
    nowhere = open_store(f"postgresql:///rag?host={run}", database.credentials["rag_reader"])
    service = start(nowhere, deadline_retrieve_seconds=3)
    assert service.retrieve().status_code in {503, 504}
    assert service.client.get("/readyz").status_code == 503
