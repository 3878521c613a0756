"""Qdrant's snapshots: a copy of each shard taken and put back, the collections and aliases with them."""

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys

import httpx
import pytest

from conformance.gate import ProbeError
from conformance.gates.data._store import restoring
from conformance.gates.data._store.qdrant import restored
from conformance.static.environment import ROOT
from conformance.static.render import render

SCRIPTS = ROOT / "apps/vectordb/cloud/qdrant/backup/scripts"
SCRIPT = SCRIPTS / "snapshots.py"
NODES = [f"http://vectordb-{n}.vectordb-headless:6333" for n in range(2)]
ALIAS = {"alias_name": "acme__active", "collection_name": "acme__1"}
VECTORS = {"dense": {"size": 4, "distance": "Cosine", "hnsw_config": {"m": 32}}}
PLACED = {"acme__1": [{0, 1}, {1, 2}], "acme__registry": [set(), {0}]}


def config(vectors, shards):
    """As `GET /collections/NAME` has it."""
    params = {"vectors": vectors, "shard_number": shards, "replication_factor": 2, "none": None}
    return {
        "params": params,
        "hnsw_config": {"m": 16},
        "optimizer_config": {"indexing_threshold": 9},
    }


class Store:
    """Collections and aliases, which are those of all nodes."""

    def __init__(self, placed):
        self.placed, self.aliases = placed, [dict(ALIAS)]
        self.collections = {"acme__1": config(VECTORS, 3), "acme__registry": config({}, 1)}
        self.indexes = {"acme__1": {"doc_id": {"data_type": "keyword", "points": 2}}}
        self.nodes = {node: Node(self, number) for number, node in enumerate(NODES)}


class Node:
    """One node: its copies of shards, and what was asked of it."""

    def __init__(self, store, number):
        self.store, self.number = store, number
        self.snapshots, self.keys, self.sick = {}, set(), set()
        self.checksum, self.refuses = None, ""
        self.copies = {
            (name, shard): f"{name} {shard}".encode()
            for name, nodes in store.placed.items()
            for shard in nodes[number]
        }

    def __call__(self, request):
        self.keys.add(request.headers.get("api-key"))
        if self.refuses and self.refuses in request.url.path:
            return httpx.Response(403, text="no such right")
        parts = request.url.path.strip("/").split("/")
        name = parts[1] if len(parts) > 1 else ""
        return self.answer(request, parts, name)

    def answer(self, request, parts, name):
        store = self.store
        match request.method, parts:
            case "GET", ["collections"]:
                return told({"collections": [{"name": c} for c in store.collections]})
            case "GET", ["aliases"]:
                return told({"aliases": list(store.aliases)})
            case "POST", ["collections", "aliases"]:
                for action in json.loads(request.content)["actions"]:
                    self.act(action)
                return told(True)
            case "GET", ["collections", _]:
                schema = store.indexes.get(name, {})
                return told({"config": store.collections[name], "payload_schema": schema})
            case "PUT", ["collections", _]:
                body = json.loads(request.content)
                assert None not in body.values()
                store.collections[name] = config(body["vectors"], body["shard_number"])
                store.indexes[name] = {}
                return told(True)
            case "PUT", ["collections", _, "index"]:
                body = json.loads(request.content)
                store.indexes[name][body["field_name"]] = {"data_type": body["field_schema"]}
                return told(True)
            case "GET", ["collections", _, "cluster"]:
                return told(self.shards(name))
            case _, ["collections", _, "shards", shard, "snapshots", *rest]:
                return self.snapshot(request, (name, int(shard)), rest)
        return httpx.Response(404, text="unknown")

    def shards(self, name):
        held = sorted(
            shard
            for shard in self.store.placed[name][self.number]
            if name in self.store.collections
        )
        states = {True: "Dead", False: "Active"}
        return {
            "shard_count": self.store.collections[name]["params"]["shard_number"],
            "local_shards": [
                {"shard_id": s, "state": states[(name, s) in self.sick]} for s in held
            ],
        }

    def snapshot(self, request, at, rest):
        match request.method, rest:
            case "POST", []:
                made = self.snapshots["made.snapshot"] = self.copies[at]
                digest = self.checksum or hashlib.sha256(made).hexdigest()
                return told({"name": "made.snapshot", "checksum": digest})
            case "GET", [name]:
                return httpx.Response(200, content=self.snapshots[name])
            case "DELETE", [name]:
                del self.snapshots[name]
                return told(True)
            case "POST", ["upload"]:
                assert request.url.params["priority"] == "snapshot"
                request.read()
                body = request.content.split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n--", 1)[0]
                for node in self.store.nodes.values():  # the other copies follow
                    if at[1] in self.store.placed[at[0]][node.number]:
                        node.copies[at] = body
                return told(True)
        return httpx.Response(404, text="unknown")

    def act(self, action):
        aliases = self.store.aliases
        if gone := action.get("delete_alias"):
            aliases[:] = [a for a in aliases if a["alias_name"] != gone["alias_name"]]
        if made := action.get("create_alias"):
            assert made["alias_name"] not in {a["alias_name"] for a in aliases}
            assert made["collection_name"] in self.store.collections
            aliases.append(made)


def told(result):
    return httpx.Response(200, json={"result": result})


@pytest.fixture
def snapshots(monkeypatch, tmp_path):
    """The script, with its nodes in memory."""
    spec = importlib.util.spec_from_file_location("snapshots", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.store = Store(PLACED)
    login = tmp_path / "store.json"
    login.write_text(json.dumps({"username": "backup", "password": "of-this-test-only"}))
    monkeypatch.setenv("QDRANT_CREDENTIALS_FILE", str(login))
    real = httpx.Client

    def client(base_url, **options):
        transport = httpx.MockTransport(module.store.nodes[base_url])
        return real(base_url=base_url, transport=transport, **options)

    monkeypatch.setattr(module.httpx, "Client", client)
    return module


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "backup"
    made.mkdir()
    return made


def nodes(snapshots):
    return list(snapshots.store.nodes.values())


def test_a_copy_of_each_shard_is_taken_and_nothing_stays_on_the_nodes(snapshots, folder):
    (folder / "old.dump").touch()
    assert snapshots.dump(NODES, folder) == 4
    assert {p.name for p in folder.iterdir()} == {
        "acme__1.0.dump",
        "acme__1.1.dump",
        "acme__1.2.dump",
        "acme__registry.0.dump",
        "collections.dump",
        "complete",
    }
    assert (folder / "acme__1.2.dump").read_text() == "acme__1 2"
    assert not any(node.snapshots for node in nodes(snapshots))
    assert {key for node in nodes(snapshots) for key in node.keys} == {"of-this-test-only"}


def test_a_copy_that_is_not_whole_is_not_taken(snapshots, folder):
    first, second = nodes(snapshots)
    first.sick.add(("acme__1", 1))
    first.copies["acme__1", 1] = b"stale"
    snapshots.dump(NODES, folder)
    assert (folder / "acme__1.1.dump").read_text() == "acme__1 1"
    second.sick.add(("acme__1", 1))
    with pytest.raises(SystemExit, match="acme__1: 2 of 3 shards have a copy that is active"):
        snapshots.dump(NODES, folder)
    assert not (folder / "complete").exists()


def test_what_was_lost_is_put_back_with_all_its_copies(snapshots, folder):
    snapshots.dump(NODES, folder)
    before = [dict(node.copies) for node in nodes(snapshots)]
    for node in nodes(snapshots):
        node.copies = dict.fromkeys(node.copies, b"lost")
    snapshots.store.aliases[:] = [{"alias_name": "acme__active", "collection_name": "acme__0"}]
    assert snapshots.restore(NODES, folder) == 4
    assert [node.copies for node in nodes(snapshots)] == before
    assert snapshots.store.aliases == [ALIAS]


def test_a_server_that_has_nothing_gets_all_of_it(snapshots, folder, monkeypatch):
    snapshots.dump(NODES, folder)
    old, new = (
        snapshots.store,
        Store({"acme__1": [{0, 1, 2}, set()], "acme__registry": [{0}, set()]}),
    )
    monkeypatch.delenv("QDRANT_CREDENTIALS_FILE")
    new.nodes = {"http://127.0.0.1:6333": new.nodes[NODES[0]]}
    (only,) = new.nodes.values()
    new.collections, new.indexes, new.aliases[:], only.copies = {}, {}, [], {}
    snapshots.store = new
    assert snapshots.restore(["http://127.0.0.1:6333"], folder) == 4
    assert only.copies == {k: v for node in old.nodes.values() for k, v in node.copies.items()}
    assert new.collections == {
        "acme__1": config(VECTORS, 3),
        "acme__registry": config({}, 1),
    }
    assert new.indexes["acme__1"]["doc_id"]["data_type"] == "keyword"
    assert (new.aliases, only.keys) == ([ALIAS], {None})


def test_a_collection_of_another_shape_is_not_written_over(snapshots, folder):
    snapshots.dump(NODES, folder)
    snapshots.store.collections["acme__1"] = config(VECTORS, 2)
    with pytest.raises(SystemExit, match="acme__1: another shard_number than the backup's"):
        snapshots.restore(NODES, folder)


def test_a_shard_that_no_node_has_stops_the_restore(snapshots, folder):
    snapshots.dump(NODES, folder)
    with pytest.raises(SystemExit, match="acme__1: no node has its shard 2"):
        snapshots.restore(NODES[:1], folder)


def test_a_torn_snapshot_is_no_backup(snapshots, folder):
    nodes(snapshots)[1].checksum = "0" * 64
    with pytest.raises(SystemExit, match=r"acme__1\.2\.dump: what came"):
        snapshots.dump(NODES, folder)
    assert not (folder / "complete").exists()
    assert not any(node.snapshots for node in nodes(snapshots))


def test_a_refusal_is_told_with_its_words(snapshots, folder):
    nodes(snapshots)[1].refuses = "snapshots"
    with pytest.raises(SystemExit, match=r"POST http://vectordb-1.*: 403 no such right"):
        snapshots.dump(NODES, folder)
    assert not (folder / "complete").exists()


def test_a_store_without_collections_is_no_backup(snapshots, folder):
    snapshots.store.collections = {}
    with pytest.raises(SystemExit, match="nothing to back up"):
        snapshots.dump(NODES, folder)


def test_a_restore_waits_for_the_backup(snapshots, folder, monkeypatch):
    monkeypatch.setattr(snapshots, "WAIT_SECONDS", -1)
    with pytest.raises(SystemExit, match="no complete backup"):
        snapshots.restore(NODES, folder)


@pytest.mark.parametrize(("nodes_", "left"), [(NODES, "restored"), (NODES[:1], "failed")])
def test_it_says_in_the_folder_how_it_ended(snapshots, folder, monkeypatch, nodes_, left):
    snapshots.dump(NODES, folder)
    monkeypatch.setenv("QDRANT_NODES", " ".join(nodes_))
    monkeypatch.setattr(sys, "argv", ["snapshots.py", "restore", str(folder)])
    if left == "failed":
        with pytest.raises(SystemExit):
            snapshots.main()
    else:
        snapshots.main()
    assert {p.name for p in folder.iterdir()} & {"restored", "failed"} == {left}


def test_the_gates_fault_is_one_of_this_script():
    program = restored.halved(str(SCRIPT))
    changed = {"__name__": "changed"}
    exec(program, changed)
    plain = changed["text"]
    assert plain == SCRIPT.read_text()
    names = re.findall(r"def (\w+)", plain)
    assert {"dump", "restore"} <= set(names) <= set(changed)
    other = ["python", "-c", restored.halved("/dev/null")]
    assert subprocess.run([sys.executable, *other[1:]], capture_output=True).returncode == 1


SERVER = """#!/bin/sh
echo started > "$BACKUP/started"
trap 'echo stopped > "$BACKUP/stopped"; exit 0' TERM
while true; do sleep 0.1; done
"""


def serve(tmp_path, folder, server, *, wait=20):
    """Run the Job's script with a stand-in for the server; its exit code."""
    home = tmp_path / "qdrant"
    home.mkdir()
    (home / "entrypoint.sh").write_text(server)
    (home / "entrypoint.sh").chmod(0o755)
    settings = {**os.environ, "BACKUP": str(folder), "QDRANT": str(home), "KEEP_SECONDS": "0"}
    return subprocess.run(
        ["sh", str(SCRIPTS / "serve.sh")], env=settings, timeout=wait, check=False
    ).returncode


def test_the_server_beside_ends_with_what_restores(tmp_path, folder):
    (folder / "restored").touch()
    assert serve(tmp_path, folder, SERVER) == 0


@pytest.mark.parametrize("server", [SERVER, "#!/bin/sh\nexit 3\n"], ids=["failed", "died"])
def test_a_restore_that_failed_or_a_server_that_died_is_no_success(tmp_path, folder, server):
    if server is SERVER:
        (folder / "failed").touch()
    assert serve(tmp_path, folder, server) == 1


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


def test_a_cloud_with_qdrant_restores_into_a_server_of_the_pods_own(monkeypatch):
    chosen = {"vector_store": "qdrant", "overlay": "cloud", "backup_bucket": "ours"}
    more = {"region": "r", "object_store_host": "s3", "image_registry": "here"}
    monkeypatch.setattr("conformance.static.matrix.variables", lambda name: chosen | more)
    job = restoring.job_of("anywhere", "restore-1", restored.CONTAINER)
    containers = {c["name"]: c for c in job["spec"]["template"]["spec"]["containers"]}
    env = {e["name"]: e["value"] for e in containers["qdrant"]["env"]}
    assert (env["KEEP_SECONDS"], env["QDRANT__SERVICE__HOST"]) == ("900", "127.0.0.1")
    (nodes_,) = containers["restore"]["env"]
    assert nodes_ == {"name": "QDRANT_NODES", "value": "http://127.0.0.1:6333"}
    with pytest.raises(ProbeError, match="no container postgresql"):
        restoring.job_of("anywhere", "restore-1", "postgresql")


def test_in_place_it_is_restored_onto_the_nodes_of_the_store():
    found = render(ROOT / "apps/vectordb/restore/qdrant-in-place")
    (job,) = (i for i in found if i["kind"] == "Job")
    spec = job["spec"]["template"]["spec"]
    containers = {c["name"]: c for c in spec["containers"]}
    assert sorted(containers) == ["fetch", "restore"]
    assert {v["name"] for v in spec["volumes"]} == {"scripts", "backup"}
    env = {e["name"]: e["value"] for e in containers["restore"]["env"]}
    (cron_job,) = (i for i in render(ROOT / "apps/vectordb/cloud/qdrant") if i["kind"] == "CronJob")
    kept = cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    (dump,) = (c for c in kept if c["name"] == "dump")
    assert env == {e["name"]: e["value"] for e in dump["env"]}


@pytest.mark.parametrize("folder", ["qdrant", "qdrant-in-place"])
def test_by_hand_nothing_but_the_clusters_vars_is_filled_in(folder):
    text = json.dumps(render(ROOT / "apps/vectordb/restore" / folder))
    names = set(re.findall(r"[$][{]([^}]*)[}]", text))
    assert names == {"backup_bucket", "image_registry", "object_store_host", "region"}
