"""`dump FOLDER`: a snapshot of each shard, and what else makes a collection. `restore FOLDER`: back again.

A collection's shards are spread over the nodes, in copies: one copy is enough. `QDRANT_NODES` names the nodes
by spaces; those that a backup is restored onto may be others, or one. backups.py keeps and fetches the files.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

ABOUT, END, SECONDS, WAIT_SECONDS = "collections.dump", ".dump", 3600.0, 7200
RESTORED, FAILED = "restored", "failed"  # what a server beside waits for
_PARAMS = (
    *("vectors", "sparse_vectors", "shard_number", "sharding_method"),
    *("replication_factor", "write_consistency_factor", "on_disk_payload"),
)
_CONFIGS = {
    "hnsw_config": "hnsw_config",
    "optimizer_config": "optimizers_config",
    "wal_config": "wal_config",
}


def _client(node: str) -> httpx.Client:
    headers = {}
    if file := os.environ.get("QDRANT_CREDENTIALS_FILE"):
        headers["api-key"] = json.loads(Path(file).read_text(encoding="utf-8"))["password"]
    return httpx.Client(base_url=node, headers=headers, timeout=SECONDS, trust_env=False)


def _result(answer: httpx.Response) -> Any:
    """What Qdrant answers with; raises `SystemExit` with its own words otherwise."""
    if not answer.is_success:
        where = f"{answer.request.method} {answer.request.url}"
        raise SystemExit(
            f"{where}: {answer.status_code} {answer.read()[:300].decode(errors='replace')}"
        )
    return answer.json()["result"]


def dump(nodes: list[str], folder: Path) -> int:
    """How many snapshots lie in the folder, which is complete then; raises `SystemExit` for none."""
    for old in [*folder.glob(f"*{END}"), folder / "complete"]:
        old.unlink(missing_ok=True)
    with _client(nodes[0]) as client:
        names = sorted(c["name"] for c in _result(client.get("/collections"))["collections"])
        about = {name: _described(client, name) for name in names}
        aliases = _result(client.get("/aliases"))["aliases"]
    if not names:
        raise SystemExit("the store has no collection: nothing to back up")
    made = 0
    for name in names:
        shards = _shards(nodes, name)
        for shard, node in shards.items():
            with _client(node) as client:
                _snapshot(client, name, shard, folder / f"{name}.{shard}{END}")
        about[name]["shards"], made = list(shards), made + len(shards)
    text = json.dumps({"collections": about, "aliases": aliases})
    (folder / ABOUT).write_text(text, encoding="utf-8")
    (folder / "complete").touch()
    return made


def _described(client: httpx.Client, name: str) -> dict[str, Any]:
    """The request that makes such a collection, and the payload's indexes."""
    told = _result(client.get(f"/collections/{name}"))
    config, params = told["config"], told["config"]["params"]
    body = {key: params.get(key) for key in _PARAMS}
    body |= {wanted: config.get(key) for key, wanted in _CONFIGS.items()}
    indexes = {
        field: found.get("params") or found["data_type"]
        for field, found in (told.get("payload_schema") or {}).items()
    }
    return {"body": {k: v for k, v in body.items() if v is not None}, "indexes": indexes}


def _shards(nodes: list[str], name: str) -> dict[int, str]:
    """The node to take each shard from; raises `SystemExit` when one has no copy that is whole."""
    found: dict[int, str] = {}
    count = 0
    for node, told in _spread(nodes, name):
        count = int(told["shard_count"])
        for shard in told["local_shards"]:
            if shard["state"] == "Active":
                found.setdefault(int(shard["shard_id"]), node)
    if len(found) != count:
        raise SystemExit(f"{name}: {len(found)} of {count} shards have a copy that is active")
    return found


def _spread(nodes: list[str], name: str) -> Iterator[tuple[str, Any]]:
    """Each node, and which of the collection's shards it says that it has."""
    for node in nodes:
        with _client(node) as client:
            yield node, _result(client.get(f"/collections/{name}/cluster"))


def _snapshot(client: httpx.Client, name: str, shard: int, path: Path) -> None:
    """Have one made, fetch it, and take it off the node's disk again."""
    at = f"/collections/{name}/shards/{shard}/snapshots"
    made = _result(client.post(at, params={"wait": "true"}))
    try:
        digest = hashlib.sha256()
        with client.stream("GET", f"{at}/{made['name']}") as answer, path.open("wb") as file:
            if not answer.is_success:
                _result(answer)
            for part in answer.iter_bytes():
                digest.update(part)
                file.write(part)
        if made.get("checksum") not in (None, digest.hexdigest()):
            raise SystemExit(f"{path.name}: what came is not what {client.base_url} made")
    finally:
        client.delete(f"{at}/{made['name']}", params={"wait": "true"})


def restore(nodes: list[str], folder: Path) -> int:
    """How many shards were put back, in place of what is there; the other copies follow."""
    _await(folder)
    told, put = json.loads((folder / ABOUT).read_text(encoding="utf-8")), 0
    for name, about in told["collections"].items():
        with _client(nodes[0]) as client:
            _make(client, name, about)
        holders = _holders(nodes, name)
        for shard in about["shards"]:
            if shard not in holders:
                raise SystemExit(f"{name}: no node has its shard {shard}")
            with _client(holders[shard]) as client:
                _upload(client, name, shard, folder / f"{name}.{shard}{END}")
            put += 1
    with _client(nodes[0]) as client:
        _alias(client, told["aliases"])
    return put


def _await(folder: Path) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not (folder / "complete").exists():
        if time.monotonic() > deadline:
            raise SystemExit(f"no complete backup in {folder} after {WAIT_SECONDS} s")
        time.sleep(1)


def _make(client: httpx.Client, name: str, about: dict[str, Any]) -> None:
    """The collection without its points, unless it is there; raises `SystemExit` for a different one."""
    there = _result(client.get("/collections"))["collections"]
    if name in {item["name"] for item in there}:
        now = _described(client, name)["body"]
        for key in ("vectors", "shard_number"):
            if now.get(key) != about["body"].get(key):
                raise SystemExit(f"{name}: another {key} than the backup's: delete it first")
        return
    _result(client.put(f"/collections/{name}", json=about["body"], params={"timeout": 60}))
    for field, schema in about["indexes"].items():
        body = {"field_name": field, "field_schema": schema}
        _result(client.put(f"/collections/{name}/index", json=body, params={"wait": "true"}))


def _holders(nodes: list[str], name: str) -> dict[int, str]:
    """The first node that has a copy of each shard, whole or not."""
    found: dict[int, str] = {}
    for node, told in _spread(nodes, name):
        for shard in told["local_shards"]:
            found.setdefault(int(shard["shard_id"]), node)
    return found


def _upload(client: httpx.Client, name: str, shard: int, path: Path) -> None:
    at = f"/collections/{name}/shards/{shard}/snapshots/upload"
    how = {"priority": "snapshot", "wait": "true"}
    with path.open("rb") as file:
        _result(client.post(at, params=how, files={"snapshot": (path.name, file)}))


def _alias(client: httpx.Client, wanted: list[dict[str, str]]) -> None:
    """The aliases as they were, in one step: an index is active by its alias."""
    there = {item["alias_name"] for item in _result(client.get("/aliases"))["aliases"]}
    actions: list[dict[str, dict[str, str]]] = []
    for item in wanted:
        name, collection = item["alias_name"], item["collection_name"]
        if name in there:
            actions.append({"delete_alias": {"alias_name": name}})
        actions.append({"create_alias": {"alias_name": name, "collection_name": collection}})
    if actions:
        _result(client.post("/collections/aliases", json={"actions": actions}))


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Says in the folder how it ended."""
    try:
        yield
    except BaseException:
        (folder / FAILED).touch()
        raise
    (folder / RESTORED).touch()


def main() -> None:
    """The command line."""
    nodes, folder = os.environ["QDRANT_NODES"].split(), Path(sys.argv[2])
    if sys.argv[1] == "dump":
        print(f"dumped {dump(nodes, folder)} snapshots of {len(nodes)} nodes")
    else:
        with _told(folder):
            print(f"restored {restore(nodes, folder)} snapshots onto {len(nodes)} nodes")


if __name__ == "__main__":
    main()
