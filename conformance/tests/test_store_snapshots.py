"""Qdrant's snapshots: each node's part of each collection taken and put back, the aliases with them."""

import hashlib
import importlib.util
import json

import httpx
import pytest

from conformance.gate import ProbeError
from conformance.gates.data._store import restoring
from conformance.static.environment import ROOT
from conformance.static.render import render

SCRIPT = ROOT / "apps/vectordb/cloud/qdrant/backup/scripts/snapshots.py"
NODES = [f"http://vectordb-{n}.vectordb-headless:6333" for n in range(2)]
ALIAS = {"alias_name": "acme__active", "collection_name": "acme__1"}


class Node:
    """One node: its part of each collection, the aliases of all, and what was asked of it."""

    def __init__(self, name, aliases):
        self.parts = {c: f"{name} of {c}".encode() for c in ("acme__1", "acme__registry")}
        self.aliases, self.snapshots, self.asked = aliases, {}, []
        self.checksum, self.refuses, self.key = None, "", ""

    def __call__(self, request):
        self.asked.append((request.method, request.url.path))
        self.key = request.headers["api-key"]
        if self.refuses and self.refuses in request.url.path:
            return httpx.Response(403, text="no such right")
        parts = request.url.path.strip("/").split("/")
        return self.answer(request, parts)

    def answer(self, request, parts):
        name = parts[1] if len(parts) > 1 else ""
        match request.method, parts:
            case "GET", ["collections"]:
                return told({"collections": [{"name": c} for c in self.parts]})
            case "GET", ["aliases"]:
                return told({"aliases": list(self.aliases)})
            case "POST", ["collections", "aliases"]:
                for action in json.loads(request.content)["actions"]:
                    self.act(action)
                return told(True)
            case "POST", ["collections", _, "snapshots"]:
                made = self.snapshots[f"{name}.snapshot"] = self.parts[name]
                digest = self.checksum or hashlib.sha256(made).hexdigest()
                return told({"name": f"{name}.snapshot", "checksum": digest})
            case "GET", ["collections", _, "snapshots", snapshot]:
                return httpx.Response(200, content=self.snapshots[snapshot])
            case "DELETE", ["collections", _, "snapshots", snapshot]:
                del self.snapshots[snapshot]
                return told(True)
            case "POST", ["collections", _, "snapshots", "upload"]:
                assert request.url.params["priority"] == "snapshot"
                request.read()
                body = request.content.split(b"\r\n\r\n", 1)[1]
                self.parts[name] = body.rsplit(b"\r\n--", 1)[0]
                return told(True)
        return httpx.Response(404, text="unknown")

    def act(self, action):
        if gone := action.get("delete_alias"):
            self.aliases[:] = [a for a in self.aliases if a["alias_name"] != gone["alias_name"]]
        if made := action.get("create_alias"):
            assert made["alias_name"] not in {a["alias_name"] for a in self.aliases}
            self.aliases.append(made)


def told(result):
    return httpx.Response(200, json={"result": result})


@pytest.fixture
def snapshots(monkeypatch, tmp_path):
    """The script, with its nodes in memory."""
    spec = importlib.util.spec_from_file_location("snapshots", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    aliases = [dict(ALIAS)]
    module.nodes = {node: Node(module._host(node), aliases) for node in NODES}
    login = tmp_path / "store.json"
    login.write_text(json.dumps({"username": "backup", "password": "of-this-test-only"}))
    monkeypatch.setenv("QDRANT_CREDENTIALS_FILE", str(login))
    real = httpx.Client

    def client(base_url, **options):
        transport = httpx.MockTransport(module.nodes[base_url])
        return real(base_url=base_url, transport=transport, **options)

    monkeypatch.setattr(module.httpx, "Client", client)
    return module


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "backup"
    made.mkdir()
    return made


def test_each_nodes_part_is_taken_and_nothing_stays_on_its_disk(snapshots, folder):
    (folder / "old.dump").touch()
    assert snapshots.dump(NODES, folder) == 4
    assert {p.name for p in folder.iterdir()} == {
        "vectordb-0.acme__1.dump",
        "vectordb-0.acme__registry.dump",
        "vectordb-1.acme__1.dump",
        "vectordb-1.acme__registry.dump",
        "aliases.dump",
        "complete",
    }
    assert (folder / "vectordb-1.acme__1.dump").read_text() == "vectordb-1 of acme__1"
    assert all(not node.snapshots for node in snapshots.nodes.values())
    assert {node.key for node in snapshots.nodes.values()} == {"of-this-test-only"}


def test_what_was_lost_is_put_back_onto_its_node(snapshots, folder):
    snapshots.dump(NODES, folder)
    before = {node: dict(there.parts) for node, there in snapshots.nodes.items()}
    for there in snapshots.nodes.values():
        there.parts = dict.fromkeys(there.parts, b"lost")
        there.aliases[:] = [{"alias_name": "acme__active", "collection_name": "acme__0"}]
    assert snapshots.restore(NODES, folder) == 4
    assert {node: there.parts for node, there in snapshots.nodes.items()} == before
    assert snapshots.nodes[NODES[0]].aliases == [ALIAS]


def test_a_torn_snapshot_is_no_backup(snapshots, folder):
    snapshots.nodes[NODES[1]].checksum = "0" * 64
    with pytest.raises(SystemExit, match=r"vectordb-1\.acme__1\.dump: what came"):
        snapshots.dump(NODES, folder)
    assert not (folder / "complete").exists()
    assert all(not node.snapshots for node in snapshots.nodes.values())


def test_a_refusal_is_told_with_its_words(snapshots, folder):
    snapshots.nodes[NODES[1]].refuses = "snapshots"
    with pytest.raises(SystemExit, match=r"POST http://vectordb-1.*: 403 no such right"):
        snapshots.dump(NODES, folder)
    assert not (folder / "complete").exists()


def test_a_store_without_collections_is_no_backup(snapshots, folder):
    for node in snapshots.nodes.values():
        node.parts = {}
    with pytest.raises(SystemExit, match="nothing to back up"):
        snapshots.dump(NODES, folder)


def test_a_part_of_a_node_that_is_gone_stops_the_restore(snapshots, folder):
    snapshots.dump(NODES, folder)
    with pytest.raises(SystemExit, match="no node vectordb-1 among vectordb-0"):
        snapshots.restore(NODES[:1], folder)


def test_a_restore_waits_for_the_backup(snapshots, folder, monkeypatch):
    monkeypatch.setattr(snapshots, "WAIT_SECONDS", -1)
    with pytest.raises(SystemExit, match="no complete backup"):
        snapshots.restore(NODES, folder)


@pytest.mark.parametrize("store", ["qdrant", "cloudnativepg"])
def test_backup_and_restore_of_a_cloud_mean_the_same_files(store):
    (cron_job,) = (
        i for i in render(ROOT / f"apps/vectordb/cloud/{store}") if i["kind"] == "CronJob"
    )
    (job,) = (i for i in render(ROOT / f"apps/vectordb/restore/{store}") if i["kind"] == "Job")
    kept, fetched = (
        cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"],
        job["spec"]["template"]["spec"],
    )

    def scripts(spec):
        return [v["configMap"]["name"] for v in spec["volumes"] if v["name"] == "scripts"]

    def place(spec, name):
        (container,) = (c for c in spec["containers"] if c["name"] == name)
        wanted = ("BACKUP_BUCKET", "BACKUP_PREFIX", "S3_ENDPOINT_URL", "AWS_REGION")
        return {e["name"]: e["value"] for e in container["env"] if e["name"] in wanted}

    assert scripts(kept) == scripts(fetched)
    assert place(kept, "keep") == place(fetched, "fetch") and len(place(kept, "keep")) == 4


def test_a_clouds_restore_job_has_the_vars_of_its_cluster(monkeypatch):
    chosen = {"vector_store": "cloudnativepg", "overlay": "cloud", "backup_bucket": "ours"}
    more = {"region": "r", "object_store_host": "s3", "image_registry": "here"}
    monkeypatch.setattr("conformance.static.matrix.variables", lambda name: chosen | more)
    job = restoring.job_of("anywhere", "restore-1", "postgresql")
    text = json.dumps(job)
    assert '"ours"' in text and "here/ingestion:" in text and "${" not in text


def test_a_store_without_a_server_of_its_own_to_restore_into_is_told(monkeypatch):
    chosen = {"vector_store": "qdrant", "overlay": "cloud"}
    monkeypatch.setattr("conformance.static.matrix.variables", lambda name: chosen)
    with pytest.raises(ProbeError, match="no container postgresql"):
        restoring.job_of("anywhere", "restore-1", "postgresql")
