"""The data gates on Qdrant: its own engine in this process, or the server that QDRANT_URL names."""

import asyncio
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from conformance.corpora.prepare import SMALL_TENANT, TENANT, prepared, provision
from conformance.gate import ProbeError, Status
from conformance.gates.data import _store
from conformance.gates.data._store.qdrant import asking, faults, load
from conformance.gates.data.vectordb_durable import TENANT as WRITTEN
from conformance.probes.writes import Writes
from conformance.tests._data_bench import (
    GATES,
    Bench,
    judge_and_prove,
    platform_on,
    run_on,
)
from conformance.tests._qdrant_server import qdrant_database
from rag_store.base import HnswParameters

THRESHOLD_KB = 10  # thirty short vectors are to have a graph


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    with (
        pytest.MonkeyPatch.context() as patch,
        qdrant_database(tmp_path_factory.mktemp("qdrant")) as made,
    ):
        patch.setattr("rag_store.qdrant.generations.GRAPH_KB", THRESHOLD_KB)
        yield made


@pytest.fixture(scope="module")
def platform(database, tmp_path_factory):
    with platform_on(database, tmp_path_factory.mktemp("platform")) as made:
        yield made


@pytest.fixture(scope="module")
def bench(platform, tmp_path_factory):
    run = run_on(platform, tmp_path_factory.mktemp("run"))
    prepared(run.context(run.slo.gates["retrieval-recall"], "edge", "prove", run.samples))
    return Bench(run, platform)


@pytest.mark.parametrize("gate", GATES)
def test_a_gate_is_green_then_red_with_its_fault_then_green(gate, bench):
    result, proofs = judge_and_prove(gate, bench)
    assert result.status is Status.PASS, result.reason
    assert proofs
    assert all(proofs), proofs


@pytest.fixture
def context(bench):
    return bench.context("hnsw-parameters")


def test_the_graph_that_is_there_is_told_and_one_that_is_not_is_an_error(context, monkeypatch):
    store = _store.of(context)
    assert store.graph(TENANT) == HnswParameters(32, 200, 128)
    with store.rebuilt_with(store.defaults):
        assert store.graph(TENANT).m == 16
    assert store.graph(TENANT).m == 32
    built = asking.built

    async def scanned(client, chunks):  # only the sparse vectors count as indexed
        info = await built(client, chunks)
        return info.model_copy(update={"indexed_vectors_count": info.points_count})

    monkeypatch.setattr(asking, "built", scanned)
    with pytest.raises(ProbeError, match=r"__[0-9a-f]+: 0 of \d+ passages are in a graph"):
        store.graph(TENANT)


def test_a_collection_that_does_not_come_to_rest_is_an_error(context, monkeypatch):
    monkeypatch.setattr(asking, "BUILD_SECONDS", 0)
    monkeypatch.setattr(asking, "LOOKS", 9)
    with pytest.raises(ProbeError, match="is green after 0 s"):
        _store.of(context).graph(TENANT)


def test_a_tenant_without_an_index_is_an_error(context):
    asyncio.run(provision(context.target, "conformance-bare"))
    with pytest.raises(ProbeError, match="tenant conformance-bare"):
        asking.passages(context, "conformance-bare")


def test_token_vectors_that_are_swapped_twice_are_as_they_were(context):
    chunks = asking.passages(context, TENANT)

    async def read(client):
        points, _ = await client.scroll(chunks, limit=1000, with_payload=["late"])
        return {point.id: point.payload["late"] for point in points}

    before = asking.ask(context, read)
    with _store.of(context).mismatched():
        during = asking.ask(context, read)
    assert sorted(during.values()) == sorted(before.values())
    assert sum(before[i] != during[i] for i in before) >= len(before) - 1
    assert asking.ask(context, read) == before


def test_an_index_without_token_vectors_cannot_be_mixed_up(context):
    documents = asking.passages(context, TENANT) + "__documents"

    async def bare(client):
        await faults.mirror(client, documents)

    with pytest.raises(ProbeError, match="no token vectors"):
        asking.ask(context, bare)


def test_acknowledged_documents_that_are_taken_away_are_lost(context):
    with _store.of(context).forgetting(WRITTEN):
        writes = Writes(context.target, WRITTEN, 2)
        with writes:
            until = time.monotonic() + 20
            while len(writes.acknowledged) < 30 and time.monotonic() < until:
                time.sleep(0.05)
    try:
        assert writes.lost()
    finally:
        writes.drop()


def test_a_fault_that_could_not_be_planted_is_told(context, monkeypatch, tmp_path):
    file = tmp_path / "wrong.json"
    file.write_text('{"username": "admin", "password": "not-the-key"}')
    told = replace(context.target.description, credentials={"admin": file})
    broken = SimpleNamespace(target=SimpleNamespace(description=told))
    monkeypatch.setattr(asking, "passages", lambda *_: "conformance__x")
    never = pytest.raises(ProbeError, match="never planted: Qdrant: HTTP 401")
    with never, faults.losing(broken, TENANT, "a.md"):
        pass
    with pytest.raises(ProbeError, match="401"), load.slowed(broken):
        pass


def test_a_store_that_nobody_can_slow_down_is_told(context, monkeypatch):
    monkeypatch.setattr(load, "SLOW_SECONDS", 1e6)
    monkeypatch.setattr(load, "MOST", 2)
    told = pytest.raises(ProbeError, match="with 2 sessions that scan a search takes")
    with told, load.slowed(context):
        pass


def test_a_name_of_the_small_tenants_that_leads_to_the_large_one_is_found(bench, context):
    both, store = prepared(bench.context("tenant-isolation")), _store.of(context)
    assert not [a for a in store.attempts(both) if a.leaked]
    with store.opened(SMALL_TENANT, TENANT):
        assert [a.way for a in store.attempts(both) if a.leaked] == [
            f"qdrant: a name of the small tenant's: {SMALL_TENANT}__shared"
        ]
    assert not [a for a in store.attempts(both) if a.leaked]


def test_without_the_key_no_fault_is_planted(context):
    told = replace(context.target.description, credentials={})
    with pytest.raises(ProbeError, match=r"no credentials\.admin"):
        asking.key(SimpleNamespace(target=SimpleNamespace(description=told)))


def test_a_store_that_no_gate_knows_is_told():
    told = SimpleNamespace(vector_db_url="milvus://here")
    with pytest.raises(ProbeError, match="no gate knows a store 'milvus'"):
        _store.of(SimpleNamespace(target=SimpleNamespace(description=told)))
