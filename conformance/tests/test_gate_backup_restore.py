"""backup-restore: Jobs on a fake cluster, and its questions put to a real PostgreSQL."""

import asyncio
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import psycopg
import pytest

from conformance.gate import ProbeError
from conformance.gates.data import backup_restore
from conformance.gates.data._store import restoring
from conformance.gates.data._store.pgvector import restored as _restored
from conformance.gates.data._store.pgvector.restored import Asked, Tables
from conformance.gates.data._store.restoring import NAMESPACE
from conformance.probes.cluster import jobs
from conformance.static import render
from conformance.tests._memory_cluster import Context, MemoryCluster, named, values
from rag_store.base import Chunk, Document, EmbeddedChunk, EmbeddingModel
from rag_store.embedded import embedded_database
from rag_store.factory import open_admin, open_store
from rag_store.pgvector.names import TenantNames

TENANT, QUERIES = "conformance", 4


class Query:
    """Wants the document of its number."""

    def __init__(self, number):
        self.text, self.relevant, self.wanted = f"q{number}", ("d",), f"d{number}"

    def newly_found(self, doc_ids):
        return [doc_id == self.wanted for doc_id in doc_ids]


def cron_job():
    containers = [{"name": "dump", "command": ["/bin/sh", "/scripts/dump.sh"]}, {"name": "keep"}]
    template = {"metadata": {"labels": {"app": "backup"}}, "spec": {"containers": containers}}
    spec = {"jobTemplate": {"spec": {"backoffLimit": 3, "template": template}}}
    return named("CronJob", "backup", NAMESPACE, "batch/v1", spec=spec)


class Backups(MemoryCluster):
    """Jobs end at once with `ends`, each with a pod."""

    def __init__(self, ends="Complete", phase="Running"):
        super().__init__(cron_job())
        self.ends, self.phase, self.commands = ends, phase, []
        self.on_create, self.says = self._created, "*\n"

    def _created(self, item):
        if item["kind"] != "Job":
            return None
        name = item["metadata"]["name"]
        spec = item["spec"]["template"]["spec"]
        labels = {"job-name": name}
        pod = named("Pod", f"{name}-0", NAMESPACE, labels=labels, spec=spec)
        self.put(pod | {"status": {"phase": self.phase}})
        self.answers[f"log {NAMESPACE}/{name}-0"] = lambda params: "what it said"
        condition = {"type": self.ends, "status": "True"}
        return {**item, "status": {"conditions": [condition] if self.ends else []}}

    def exec(self, namespace, pod, container, command, stdin="", seconds=30):
        self.commands.append((pod, container, stdin))
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


def context(cluster):
    made = Context(cluster, job_seconds=0, queries=QUERIES)
    made.target.environment = "lab"
    made.target.description = SimpleNamespace(vector_db_url="postgresql://nowhere/rag")
    return made


@pytest.fixture
def platform(monkeypatch):
    """The documents here and in the copy, and the nearest of each question."""
    state = SimpleNamespace(here=[f"d{n} x" for n in range(5)], copy=[f"d{n} x" for n in range(5)])
    state.found = [f"d{n},d9" for n in range(QUERIES)]
    state.copied = list(state.found)

    def asks(documents, found):
        @contextmanager
        def opened(*_):
            answers = {True: documents, False: found}
            yield Asked(lambda text: getattr(state, answers["md5" in text]), Tables("doc", "chunk"))

        return opened

    monkeypatch.setattr(_restored, "live", asks("here", "found"))
    monkeypatch.setattr(_restored, "restored", asks("copy", "copied"))
    monkeypatch.setattr(backup_restore, "prepared", lambda _: None)
    queries = [Query(n) for n in range(QUERIES)]
    monkeypatch.setattr("conformance.gates.data._queries.sample", lambda _: queries)
    monkeypatch.setattr(backup_restore, "embed", lambda *_: np.eye(QUERIES, dtype=np.float32))
    return state


def test_a_backup_that_holds_and_finds_the_same_is_green(platform):
    cluster = Backups()
    made = context(cluster)
    seen = backup_restore.measure(made)
    assert values(seen) == {"differences": 0, "recall_change": 0, "recall_restored": 1}
    assert seen.metrics["differences"].n == 5
    assert any("what it said" in str(text) for text in made.evidence.files.values())
    assert cluster.planted == []


def test_documents_that_are_missing_changed_or_too_many_differ(platform):
    platform.copy = ["d0 x", "d1 other", "d2 x", "d3 x", "d7 x"]
    assert values(backup_restore.measure(context(Backups())))["differences"] == 3


def test_a_copy_that_finds_less_has_lost_recall(platform):
    platform.copied = []
    seen = values(backup_restore.measure(context(Backups())))
    assert (seen["recall_change"], seen["recall_restored"]) == (-1, 0)


@pytest.mark.parametrize(
    ("ends", "told"), [("Failed", "failed: .*what it said"), ("", "ended: not within")]
)
def test_a_backup_that_does_not_succeed_is_an_error(platform, ends, told):
    with pytest.raises(ProbeError, match=f"(?s){told}"):
        backup_restore.measure(context(Backups(ends)))


def test_the_fault_leaves_the_passages_out_and_is_taken_back():
    cluster = Backups()
    with backup_restore.GATE.faults[0].plant(context(cluster)):
        job = jobs.job_of(cluster.get("batch/v1", "CronJob", "backup", NAMESPACE), "j")
        dump, keep = job["spec"]["template"]["spec"]["containers"]
        assert "--exclude-table-data=*.chunk_*" in dump["command"][-1]
        assert "command" not in keep
    spec = cluster.get("batch/v1", "CronJob", "backup", NAMESPACE)["spec"]
    assert spec == cron_job()["spec"]


@pytest.fixture
def restore_job(monkeypatch, tmp_path):
    containers = [{"name": "fetch"}, {"name": "postgresql", "env": [{"name": "KEEP_SECONDS"}]}]
    template = {"metadata": {"labels": {}}, "spec": {"containers": containers}}
    job = named("Job", "restore", NAMESPACE, "batch/v1", spec={"template": template})
    found = [named("ConfigMap", "backup"), job]
    monkeypatch.setattr(render, "render", lambda folder: list(found))
    (tmp_path / "restore" / "base").mkdir(parents=True)
    monkeypatch.setattr(restoring, "RESTORE", tmp_path / "restore")
    monkeypatch.setattr(_restored, "tables", lambda *_: Tables("doc", "chunk"))
    return found


def test_the_restored_server_is_asked_in_its_pod(restore_job):
    cluster = Backups()
    with _restored.restored(context(cluster), TENANT, 0) as copy:
        cluster.says = "a\n\nb\n"
        assert copy.ask("SELECT 1") == ["a", "b"]
    pod, container, text = cluster.commands[-1]
    assert (pod.startswith("probe-restore-"), container, text) == (True, "postgresql", "SELECT 1")
    assert cluster.planted == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"says": ""}, "restored and served"),
        ({"says": ProbeError("no container yet")}, "restored and served.*what it said"),
        ({"phase": "Failed"}, "pod failed"),
    ],
)
def test_a_restore_that_does_not_serve_is_an_error(restore_job, change, told):
    cluster = Backups()
    for name, value in change.items():
        setattr(cluster, name, value)
    with (
        pytest.raises(ProbeError, match=f"(?s){told}"),
        _restored.restored(context(cluster), TENANT, 0),
    ):
        pass
    assert cluster.planted == []


def test_a_checkout_without_one_restore_job_is_an_error(restore_job, tmp_path, monkeypatch):
    restore_job.pop()
    with (
        pytest.raises(ProbeError, match="one Job wanted"),
        _restored.restored(context(Backups()), TENANT, 0),
    ):
        pass
    monkeypatch.setattr(restoring, "RESTORE", tmp_path)
    with (
        pytest.raises(ProbeError, match="no restore Job"),
        _restored.restored(context(Backups()), TENANT, 0),
    ):
        pass


def test_its_questions_are_understood_by_a_real_store(tmp_path):
    vectors = np.eye(4, dtype=np.float32)

    async def fill(database):
        admin = open_admin(database.url, database.credentials["rag_admin"])
        await admin.provision(TENANT)
        await admin.close()
        store = open_store(database.url, database.credentials["rag_writer"])
        model = EmbeddingModel("m", "d" * 64, 4)
        generation = (await store.ensure_generation(TENANT, model)).id
        for n in range(4):
            key = f"d {n}"
            document = Document(key, key, key, f"hash-{n}", datetime.now(UTC))
            chunk = Chunk(f"{key}#0", key, 0, f"text {n}", (), 0, 6, 2)
            await store.upsert(TENANT, generation, document, [EmbeddedChunk(chunk, vectors[n])])
        await store.optimize(TENANT, generation)
        await store.activate(TENANT, generation)
        await store.close()
        return generation

    with embedded_database(tmp_path) as database:
        generation = asyncio.run(fill(database))
        with psycopg.connect(database.superuser_dsn, autocommit=True) as connection:
            found = TenantNames(TENANT).tables(generation)
            told = Tables(*(found[k].as_string(connection) for k in ("document", "chunk")))

            @contextmanager
            def owner(*_):
                yield connection

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(_restored.faults, "owner", owner)
                with _restored.live(None, TENANT) as live:
                    before = live.documents()
                    nearest = live.nearest(vectors[:2], 2)
                    live.ask(f"UPDATE {told.chunk} SET body = 'other' WHERE doc_id = 'd 1'")
                    after = live.documents()
                assert _restored.tables(None, TENANT) == told
    assert sorted(before) == [f"d {n}" for n in range(4)]
    assert [i for i in before if before[i] != after[i]] == ["d 1"]
    assert [found[0] for found in nearest] == ["d 0", "d 1"]
    assert all(len(found) == 2 for found in nearest)
