"""`dump FOLDER`: each node's snapshot of each collection, and the aliases. `restore FOLDER`: back again.

A collection is spread over the nodes, and a snapshot has one node's part. `QDRANT_NODES` names the nodes by
spaces; the folder's files are what backups.py keeps and fetches.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

ALIASES, END, SECONDS, WAIT_SECONDS = "aliases.dump", ".dump", 3600.0, 7200


def _client(node: str) -> httpx.Client:
    login = json.loads(Path(os.environ["QDRANT_CREDENTIALS_FILE"]).read_text(encoding="utf-8"))
    headers = {"api-key": login["password"]}
    return httpx.Client(base_url=node, headers=headers, timeout=SECONDS, trust_env=False)


def _result(answer: httpx.Response) -> Any:
    """What Qdrant answers with; raises `SystemExit` with its own words otherwise."""
    if not answer.is_success:
        where = f"{answer.request.method} {answer.request.url}"
        raise SystemExit(
            f"{where}: {answer.status_code} {answer.read()[:300].decode(errors='replace')}"
        )
    return answer.json()["result"]


def _host(node: str) -> str:
    return str(urlsplit(node).hostname).split(".")[0]


def dump(nodes: list[str], folder: Path) -> int:
    """How many snapshots lie in the folder, which is complete then; raises `SystemExit` for none."""
    for old in [*folder.glob(f"*{END}"), folder / "complete"]:
        old.unlink(missing_ok=True)
    made = 0
    for node in nodes:
        with _client(node) as client:
            found = _result(client.get("/collections"))["collections"]
            for name in sorted(item["name"] for item in found):
                _snapshot(client, name, folder / f"{_host(node)}.{name}{END}")
                made += 1
    if not made:
        raise SystemExit("the store has no collection: nothing to back up")
    with _client(nodes[0]) as client:
        aliases = _result(client.get("/aliases"))["aliases"]
    (folder / ALIASES).write_text(json.dumps(aliases), encoding="utf-8")
    (folder / "complete").touch()
    return made


def _snapshot(client: httpx.Client, name: str, path: Path) -> None:
    """Have one made, fetch it, and take it off the node's disk again."""
    at = f"/collections/{name}/snapshots"
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
    """How many snapshots were put back: each onto the node that it is of, in place of what it has."""
    _await(folder)
    by_host, put = {_host(node): node for node in nodes}, 0
    for path, host, name in _snapshots(folder):
        if host not in by_host:
            raise SystemExit(f"{path.name}: no node {host} among {', '.join(by_host)}")
        with _client(by_host[host]) as client, path.open("rb") as file:
            at = f"/collections/{name}/snapshots/upload"
            how = {"priority": "snapshot", "wait": "true"}
            _result(client.post(at, params=how, files={"snapshot": (path.name, file)}))
        put += 1
    with _client(nodes[0]) as client:
        _alias(client, json.loads((folder / ALIASES).read_text(encoding="utf-8")))
    return put


def _await(folder: Path) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not (folder / "complete").exists():
        if time.monotonic() > deadline:
            raise SystemExit(f"no complete backup in {folder} after {WAIT_SECONDS} s")
        time.sleep(1)


def _snapshots(folder: Path) -> Iterator[tuple[Path, str, str]]:
    for path in sorted(folder.glob(f"*{END}")):
        if path.name != ALIASES:
            host, _, name = path.name.removesuffix(END).partition(".")
            yield path, host, name


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


def main() -> None:
    """The command line."""
    nodes, folder = os.environ["QDRANT_NODES"].split(), Path(sys.argv[2])
    if sys.argv[1] == "dump":
        print(f"dumped {dump(nodes, folder)} snapshots of {len(nodes)} nodes")
    else:
        print(f"restored {restore(nodes, folder)} snapshots onto {len(nodes)} nodes")


if __name__ == "__main__":
    main()
