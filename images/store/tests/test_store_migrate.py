"""Moving a tenant from PostgreSQL to Qdrant (its client's local mode) while it is served."""

import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from click.testing import CliRunner
from qdrant_client import AsyncQdrantClient

from rag_store import cli, open_admin, open_store
from rag_store.base import NoActiveGenerationError, SyncState
from rag_store.migrate import Bounds, Migration
from rag_store.qdrant import QdrantAdmin, QdrantStore

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact"),
]


@pytest.fixture
async def pair(database):
    """Source (PostgreSQL), target (Qdrant) and a tenant provisioned in both."""
    tenant = f"m-{uuid.uuid4().hex[:8]}"
    admin = open_admin(database.url, database.credentials["rag_admin"])
    source = open_store(database.url, database.credentials["rag_writer"])
    client = AsyncQdrantClient(":memory:")
    for one in (admin, QdrantAdmin(client)):
        await one.provision(tenant)
    yield source, QdrantStore(client), tenant
    await source.close()
    await admin.deprovision(tenant)


async def test_everything_arrives(pair, data):
    source, target, tenant = pair
    generation = await data.fill(source, tenant, 20)
    state = SyncState(datetime(2026, 1, 2, tzinfo=UTC), None, 20, 40)
    await source.record_sync(tenant, state)
    seen = []
    report = await Migration(
        source, target, tenant, progress=lambda done, total: seen.append((done, total))
    ).run()
    assert (report.ok, report.copied, report.passes) == (True, 20, 1)
    assert report.documents == {"source": 20, "target": 20}
    assert report.chunks == {"source": 40, "target": 40}
    assert (report.recall_at_10, report.samples) == (1.0, 20)
    assert seen[-1] == (20, 20)
    there = await target.active_generation(tenant)
    assert there.model == (await source.active_generation(tenant)).model
    before = [pair async for page in source.scan(tenant, generation) for pair in page]
    after = [pair async for page in target.scan(tenant, there.id) for pair in page]
    assert [d for d, _ in before] == [d for d, _ in after]
    for (_, left), (_, right) in zip(before, after, strict=True):
        assert [(i.chunk, i.late) for i in left] == [(i.chunk, i.late) for i in right]
        np.testing.assert_allclose([i.dense for i in left], [i.dense for i in right], atol=1e-6)
    assert await target.sync_state(tenant) == state
    for text in ("invoice policy", "appendix number7"):
        left, right = [await s.search(tenant, text, data.vector(3)) for s in (source, target)]
        assert [hit.chunk.chunk_id for hit in left] == [hit.chunk.chunk_id for hit in right]


class Changing:
    """A source that somebody writes to after (or before) it is listed, `times` times."""

    def __init__(self, store, change, times, *, before=False):
        self._store, self._change, self._times = store, change, times
        self._before = before

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def documents(self, tenant, generation):
        found = None if self._before else await self._store.documents(tenant, generation)
        if self._times:
            self._times -= 1
            await self._change(self._times)
        return await self._store.documents(tenant, generation) if self._before else found


async def test_changes_meanwhile_are_caught_up(pair, data):
    source, target, tenant = pair
    generation = await data.fill(source, tenant, 6)

    async def change(n):
        fresh = data.document(f"new{n}")
        await source.upsert(tenant, generation, fresh, data.chunks(fresh.doc_id, f"fresh{n}"))
        changed = data.document("d01", content_hash=f"changed {n}")
        await source.upsert(tenant, generation, changed, data.chunks("d01", f"changed{n}"))
        await source.delete(tenant, generation, [f"d0{n + 3}"])

    report = await Migration(Changing(source, change, 2), target, tenant).run()
    assert report.ok
    assert report.passes >= 2
    wanted = await source.documents(tenant, generation)
    assert await target.documents(tenant, report.generation) == wanted
    assert {"new0", "new1"} <= set(wanted)


async def test_a_second_run_copies_only_the_difference(pair, data):
    source, target, tenant = pair
    generation = await data.fill(source, tenant, 6)
    await Migration(source, target, tenant).run()
    await source.delete(tenant, generation, ["d00"])
    renamed = data.document("d05", title="Renamed")
    await source.upsert(tenant, generation, renamed, data.two(5))
    report = await Migration(source, target, tenant).run()
    assert (report.ok, report.copied, report.deleted) == (True, 1, 1)


async def test_a_source_that_never_rests_is_reported(pair, data, monkeypatch):
    monkeypatch.setattr("rag_store.migrate.PASSES", 2)
    source, target, tenant = pair
    generation = await data.fill(source, tenant, 3)

    async def change(n):
        document = data.document("d01", content_hash=f"changed {n}")
        await source.upsert(tenant, generation, document, data.two(1))

    report = await Migration(Changing(source, change, 99, before=True), target, tenant).run()
    assert not report.ok
    assert "pause ingestion" in report.problems[0]
    with pytest.raises(NoActiveGenerationError):
        await target.active_generation(tenant)


class Lossy:
    """A target that loses a document and returns the wrong neighbours."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def search(self, tenant, text, dense, **options):
        return await self._store.search(tenant, text, -dense, **options)

    async def counts(self, tenant, generation):
        counts = await self._store.counts(tenant, generation)
        return replace(counts, documents=counts.documents - 1)


async def test_a_target_that_is_not_equal_is_refused(pair, data):
    source, target, tenant = pair
    await data.fill(source, tenant, 20)
    report = await Migration(source, Lossy(target), tenant, bounds=Bounds(0.9, 5)).run()
    assert not report.ok
    assert [p.split()[0] for p in report.problems] == ["documents", "recall@10"]
    assert report.recall_at_10 < 0.9


async def test_an_empty_source_is_no_pass(pair, data):
    source, target, tenant = pair
    await data.fill(source, tenant, 0)
    report = await Migration(source, target, tenant).run()
    assert not report.ok
    assert "cannot be measured" in report.problems[0]


def _run(database, tenant, target, *options):
    files = database.credentials
    arguments = [tenant, "--from-url", database.url, "--from-credentials", files["rag_writer"]]
    arguments += ["--to-url", target, "--to-credentials", files["rag_writer"], *options]
    return CliRunner().invoke(cli.main, [str(part) for part in arguments])


def test_the_command_reports_and_exits(database, monkeypatch, tmp_path, credentials, data):
    import asyncio

    async def prepared():
        admin = open_admin(database.url, database.credentials["rag_admin"])
        store = open_store(database.url, database.credentials["rag_writer"])
        await admin.provision("cli-tenant")
        await data.fill(store, "cli-tenant", 3)
        await store.close()

    asyncio.run(prepared())
    report = tmp_path / "report.json"
    # A store moved onto itself is equal to itself: nothing to copy, everything to compare.
    result = _run(database, "cli-tenant", database.url, "--json", report)
    assert result.exit_code == 0, result.output
    written = json.loads(report.read_text())
    assert (written["ok"], written["recall_at_10"], written["copied"]) == (True, 1.0, 0)

    result = _run(database, "cli-tenant", "qdrant://127.0.0.1:9")
    assert result.exit_code == 1
    assert "Qdrant" in result.output
    result = _run(database, "nobody", database.url)
    assert result.exit_code == 1
    assert "has not been provisioned" in result.output
    assert _run(database, "x", "postgresql://u:secret@h/d").exit_code == 1

    async def empty(self, query, generation):
        return 0.5

    monkeypatch.setattr(Migration, "_recall", empty)
    result = _run(database, "cli-tenant", database.url)
    assert result.exit_code == 1
    assert "recall@10 0.5 is below 0.985" in result.output

    async def removed():
        await open_admin(database.url, database.credentials["rag_admin"]).deprovision("cli-tenant")

    asyncio.run(removed())
