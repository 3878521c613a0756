"""backup-restore on Qdrant: the Jobs' own commands run here, against two servers of the real engine."""

import asyncio
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest

from conformance.gate import ProbeError
from conformance.gates.data import backup_restore
from conformance.gates.data._store.qdrant import restored
from conformance.gates.data._store.restoring import NAMESPACE
from conformance.static.environment import ROOT
from conformance.static.render import render
from conformance.tests._memory_cluster import Context, MemoryCluster, named, values
from conformance.tests._qdrant_server import qdrant_server
from rag_store import open_admin, open_store
from rag_store.base import Chunk, Document, EmbeddedChunk, EmbeddingModel

SCRIPTS = ROOT / "apps/vectordb/cloud/qdrant/backup/scripts"
KEY, TENANT, SIZE, ASKED = "of-this-test-only-and-of-nothing-else", "conformance", 40, 6
VECTORS = np.random.default_rng(5).normal(size=(SIZE, 16)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)


class Query:
    """Wants the document of its number."""

    def __init__(self, number):
        self.text, self.relevant, self.wanted = f"q{number}", ("d",), f"d{number:02}"

    def newly_found(self, doc_ids):
        return [doc_id == self.wanted for doc_id in doc_ids]


async def fill(url, file):
    admin, store = open_admin(url, file), open_store(url, file)
    await admin.provision(TENANT)
    generation = (await store.ensure_generation(TENANT, EmbeddingModel("m", "d" * 64, 16))).id
    for n in range(SIZE):
        key = f"d{n:02}"
        document = Document(key, key, key, f"hash-{n}", datetime.now(UTC))
        chunk = Chunk(f"{key}#0", key, 0, f"text {n}", (), 0, 6, 2)
        item = EmbeddedChunk(chunk, VECTORS[n], b"late")
        await store.upsert(TENANT, generation, document, [item])
    await store.activate(TENANT, generation)
    await admin.close()
    await store.close()


class Jobs(MemoryCluster):
    """Jobs whose container `dump` is run, as its command says."""

    def __init__(self, run):
        found = render(ROOT / "apps/vectordb/cloud/qdrant")
        super().__init__(*(i for i in found if i["kind"] == "CronJob"))
        self.run, self.on_create = run, self._created

    def _created(self, item):
        name = item["metadata"]["name"]
        spec = item["spec"]["template"]["spec"]
        code = self.run(spec, "dump")
        self.put(named("Pod", f"{name}-0", NAMESPACE, labels={"job-name": name}, spec=spec))
        self.answers[f"log {NAMESPACE}/{name}-0"] = lambda params: "what it said"
        condition = {"type": "Failed" if code else "Complete", "status": "True"}
        return {**item, "status": {"conditions": [condition]}}


@pytest.fixture
def gate(tmp_path, monkeypatch):
    """The gate's context; the copy is a server of its own, emptied for each restore."""
    file, folder = tmp_path / "key.json", tmp_path / "backup"
    file.write_text(json.dumps({"username": "admin", "password": KEY}))
    folder.mkdir()
    monkeypatch.setattr("rag_store.qdrant.generations.GRAPH_KB", 10)
    with qdrant_server(KEY) as (_, url), qdrant_server(KEY) as (copy, at):
        asyncio.run(fill(url, file))

        def run(spec, name):
            (container,) = (c for c in spec["containers"] if c["name"] == name)
            places = {"/backup": str(folder), "/scripts": str(SCRIPTS)}
            nodes = {"dump": url, "restore": at}[name].replace("qdrant", "http")
            settings = {"QDRANT_NODES": nodes, "QDRANT_CREDENTIALS_FILE": str(file)}
            command = container["command"]
            for there, here in places.items():
                command = [word.replace(there, here) for word in command]
            assert command[0] == "python"
            done = subprocess.run([sys.executable, *command[1:]], env={**os.environ, **settings})
            return done.returncode

        @contextmanager
        def served(context, container, serves, seconds):
            for name in list(copy.collections):
                copy._drop(name)
            found = render(ROOT / "apps/vectordb/restore/qdrant")
            (job,) = (i for i in found if i["kind"] == "Job")
            if run(job["spec"]["template"]["spec"], "restore"):
                raise ProbeError("the restore Job's pod failed")
            yield named("Pod", "restored", NAMESPACE)

        monkeypatch.setattr(restored.restoring, "restored", served)
        door = SimpleNamespace(address=at.removeprefix("qdrant://"))

        @contextmanager
        def forward_to(cluster, place, pod):
            assert (place.namespace, place.port, pod) == (NAMESPACE, 6333, "restored")
            yield door

        monkeypatch.setattr(restored, "forward_to", forward_to)
        monkeypatch.setattr(backup_restore, "prepared", lambda _: None)
        monkeypatch.setattr(
            "conformance.gates.data._queries.sample", lambda _: [Query(n) for n in range(ASKED)]
        )
        monkeypatch.setattr(backup_restore, "embed", lambda *_: VECTORS[:ASKED])
        made = Context(Jobs(run), job_seconds=0, queries=ASKED)
        made.target.environment = "staging"
        made.target.description = SimpleNamespace(vector_db_url=url, credentials={"admin": file})
        made.target.store = lambda login: open_store(url, file)
        yield made


def test_a_backup_that_holds_and_finds_the_same_is_green(gate):
    seen = backup_restore.measure(gate)
    assert values(seen) == {"differences": 0, "recall_change": 0, "recall_restored": 1}
    assert seen.metrics["differences"].n == SIZE


def test_a_backup_without_a_shard_of_the_passages_is_red_and_the_next_is_whole(gate):
    with backup_restore.GATE.faults[0].plant(gate):
        seen = values(backup_restore.measure(gate))
    assert seen == {"differences": SIZE, "recall_change": -1, "recall_restored": 0}
    assert values(backup_restore.measure(gate))["differences"] == 0


def test_what_was_changed_since_differs(gate):
    async def change():
        store = gate.target.store("writer")
        generation = (await store.active_generation(TENANT)).id
        await store.delete(TENANT, generation, ["d01"])
        await store.close()

    real = restored.restored

    @contextmanager
    def later(*args):
        with real(*args) as copy:
            asyncio.run(change())
            yield copy

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(restored, "restored", later)
        assert values(backup_restore.measure(gate))["differences"] == 1


@pytest.mark.parametrize(
    ("restore", "server", "served"),
    [
        ({"terminated": {"exitCode": 0}}, {"running": {}}, True),
        ({"running": {}}, {"running": {}}, False),
        ({"terminated": {"exitCode": 0}}, {"terminated": {"exitCode": 0}}, False),
        ({}, {}, False),
    ],
)
def test_the_copy_is_asked_once_it_is_restored_and_serves(restore, server, served):
    statuses = [{"name": "restore", "state": restore}, {"name": "qdrant", "state": server}]
    assert restored._restored({"status": {"containerStatuses": statuses}}) is served
    assert restored._restored({}) is False


def test_a_restore_that_failed_is_an_error():
    state = {"terminated": {"exitCode": 2}}
    with pytest.raises(ProbeError, match="restore failed with 2"):
        restored._restored({"status": {"containerStatuses": [{"name": "restore", "state": state}]}})
