"""Qdrant's HTTP API, as far as the project asks it, over Qdrant's own engine in this process.

Graphs, scans, filters and IDF are the engine's (`qdrant-edge-py`); collections, aliases and tokens are here.
"""

import asyncio
import hashlib
import hmac
import io
import json
import os
import secrets
import shutil
import tarfile
import tempfile
import threading
import time
import uuid
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import qdrant_edge as q
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from conformance.children import free_url
from conformance.targets.processes import serving
from rag_common.files import read_credentials
from rag_store import open_admin, open_store

DEFAULTS = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000}
NONE = "none"  # the engine wants a vector where a collection has none
READS = ("GET", "scroll", "query", "count", "points")
Body = dict[str, Any]


class RefusedError(Exception):
    """A status and what is said with it."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


class Collection:
    """One collection: an engine's shard, built anew when its graph is to have other numbers."""

    def __init__(self, folder: Path, wanted: Body) -> None:
        self.folder, self.wanted, self.lock = folder, wanted, threading.RLock()
        self.schema: dict[str, str] = {}
        self.shard = q.EdgeShard.create(str(folder), self._config())

    def hnsw(self) -> Body:
        """The dense vector's numbers, defaults included."""
        told: Body = DEFAULTS | (self.wanted.get("hnsw_config") or {})
        for vector in (self.wanted.get("vectors") or {}).values():
            own = vector.get("hnsw_config") or {}
            told = told | {k: v for k, v in own.items() if v is not None}
        return told

    def _config(self) -> q.EdgeConfig:
        found = self.hnsw()
        hnsw = q.HnswIndexConfig(found["m"], found["ef_construct"], found["full_scan_threshold"])
        dense = {
            name: q.EdgeVectorParams(v["size"], q.Distance.Cosine, hnsw_config=hnsw)
            for name, v in (self.wanted.get("vectors") or {}).items()
        }
        names = list(self.wanted.get("sparse_vectors") or {}) or ([] if dense else [NONE])
        sparse = {name: q.EdgeSparseVectorParams(modifier=q.Modifier.Idf) for name in names}
        threshold = (self.wanted.get("optimizers_config") or {}).get("indexing_threshold")
        optimizers = q.EdgeOptimizersConfig(
            default_segment_number=1, indexing_threshold=threshold or 10000
        )
        return q.EdgeConfig(vectors=dense, sparse_vectors=sparse, optimizers=optimizers)

    def change(self, body: Body) -> None:
        """Take what the body names and load the shard by it; the next look rebuilds the graph."""
        for name, vector in (body.get("vectors") or {}).items():
            own = self.wanted["vectors"][name].get("hnsw_config") or {}
            given = {k: v for k, v in (vector.get("hnsw_config") or {}).items() if v is not None}
            self.wanted["vectors"][name]["hnsw_config"] = own | given
        self.shard.close()
        self.shard = q.EdgeShard.load(str(self.folder), self._config())

    def info(self) -> Body:
        """As `GET /collections/NAME` has it, after the optimizers have run."""
        self.shard.optimize()
        found = self.shard.info()
        optimizers = {"deleted_threshold": 0.2, "vacuum_min_vector_number": 1000}
        given = (self.wanted.get("optimizers_config") or {}).items()
        optimizers |= {"default_segment_number": 1, "flush_interval_sec": 5}
        optimizers |= {k: v for k, v in given if v is not None}
        return {
            "status": "green",
            "optimizer_status": "ok",
            "segments_count": found.segments_count,
            "points_count": found.points_count,
            "indexed_vectors_count": found.indexed_vectors_count,
            "config": {
                "params": {
                    "vectors": self.wanted.get("vectors") or {},
                    "sparse_vectors": self.wanted.get("sparse_vectors") or {},
                    "shard_number": 1,
                },
                "hnsw_config": {**DEFAULTS, **(self.wanted.get("hnsw_config") or {})},
                "optimizer_config": optimizers,
                "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0},
            },
            "payload_schema": {k: {"data_type": v, "points": 0} for k, v in self.schema.items()},
        }

    def snapshot(self) -> bytes:
        """The shard's files."""
        self.shard.flush()
        held = io.BytesIO()
        with tarfile.open(fileobj=held, mode="w") as archive:
            archive.add(self.folder, ".")
        return held.getvalue()

    def restore(self, snapshot: bytes) -> None:
        """The shard as those files have it."""
        self.shard.close()
        shutil.rmtree(self.folder)
        with tarfile.open(fileobj=io.BytesIO(snapshot)) as archive:
            archive.extractall(self.folder, filter="data")
        self.shard = q.EdgeShard.load(str(self.folder), self._config())

    def upsert(self, points: list[Body]) -> None:
        """Write points."""
        made = [q.Point(p["id"], _vectors(p["vector"]), p.get("payload") or {}) for p in points]
        self.shard.update(q.UpdateOperation.upsert_points(made))

    def delete(self, body: Body) -> None:
        """Remove points by their ids or by a filter."""
        if body.get("filter"):
            operation = q.UpdateOperation.delete_points_by_filter(_filter(body["filter"]))
        else:
            operation = q.UpdateOperation.delete_points(body["points"])
        self.shard.update(operation)

    def batch(self, operations: list[Body]) -> None:
        """Several changes; payloads that are set, and what `upsert` and `delete` do."""
        for operation in operations:
            ((kind, body),) = operation.items()
            if kind == "set_payload":
                change = q.UpdateOperation.set_payload(body["points"], body["payload"])
                self.shard.update(change)
            elif kind == "delete":
                self.delete(body)
            else:
                raise RefusedError(400, f"unknown operation {kind}")

    def scroll(self, body: Body) -> Body:
        """A page of points by their ids."""
        request = q.ScrollRequest(
            offset=body.get("offset"),
            limit=body.get("limit") or 10,
            filter=_filter(body["filter"]) if body.get("filter") else None,
            with_payload=True,
            with_vector=body.get("with_vector") or False,
        )
        points, following = self.shard.scroll(request)
        shown = [_record(p, body.get("with_payload", True)) for p in points]
        return {"points": shown, "next_page_offset": _id(following)}

    def retrieve(self, body: Body) -> list[Body]:
        """Points by their ids."""
        found = self.shard.retrieve(body["ids"], True, body.get("with_vector") or False)
        return [_record(p, body.get("with_payload", True)) for p in found]

    def query(self, body: Body) -> Body:
        """One search."""
        wanted, name = body["query"], body.get("using")
        wanted = wanted.get("nearest", wanted) if isinstance(wanted, dict) else wanted
        if isinstance(wanted, str):  # a point's id
            (own,) = self.shard.retrieve([wanted], False, [name])
            wanted = own.vector[name]
        vector = q.SparseVector(**wanted) if isinstance(wanted, dict) else wanted
        params = body.get("params") or {}
        found = self.shard.query(
            q.QueryRequest(
                limit=body["limit"],
                query=q.Query.Nearest(vector, using=name),
                params=q.SearchParams(
                    hnsw_ef=params.get("hnsw_ef"), exact=bool(params.get("exact"))
                ),
                with_payload=bool(body.get("with_payload")),
            )
        )
        shown = [
            _record(p, body.get("with_payload")) | {"score": p.score, "version": 0} for p in found
        ]
        return {"points": shown}


def _body(raw: bytes) -> Body:
    """JSON, or the one file of a form."""
    if raw.startswith(b"--"):
        return {"file": raw.split(b"\r\n\r\n", 1)[1].rpartition(b"\r\n--")[0]}
    return dict(json.loads(raw)) if raw else {}


def _vectors(given: Any) -> dict[str, Any]:
    return {k: q.SparseVector(**v) if isinstance(v, dict) else v for k, v in given.items()}


def _id(point: Any) -> Any:
    return str(point) if isinstance(point, uuid.UUID) else point


def _record(point: Any, wanted: Any) -> Body:
    payload = dict(point.payload or {})
    if isinstance(wanted, dict):
        keep, drop = wanted.get("include"), wanted.get("exclude") or ()
        payload = {k: v for k, v in payload.items() if k not in drop and (not keep or k in keep)}
    elif isinstance(wanted, list):
        payload = {k: v for k, v in payload.items() if k in wanted}
    elif not wanted:
        payload = {}
    made = {"id": _id(point.id), "payload": payload}
    vector = getattr(point, "vector", None)
    if isinstance(vector, dict):
        made["vector"] = {
            k: v if isinstance(v, list) else {"indices": v.indices, "values": v.values}
            for k, v in vector.items()
        }
    return made


def _filter(told: Body) -> q.Filter:
    parts = {
        part: [_condition(c) for c in told[part]]
        for part in ("must", "must_not", "should")
        if told.get(part)
    }
    return q.Filter(**parts)


def _condition(told: Body) -> Any:
    if told.get("range"):
        limits = {k: v for k, v in told["range"].items() if v is not None}
        return q.FieldCondition(told["key"], range=q.RangeFloat(**limits))
    match = told["match"]
    wanted = q.MatchAny(match["any"]) if "any" in match else q.MatchValue(match["value"])
    return q.FieldCondition(told["key"], match=wanted)


class Server:
    """Collections, aliases, and who may ask for what; `key` signs the tokens."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key, self.lock = folder, key, threading.RLock()
        self.collections: dict[str, Collection] = {}
        self.aliases: dict[str, str] = {}
        self.snapshots: dict[str, bytes] = {}
        self.before: Callable[[str, str], None] = lambda method, path: None

    # Who may

    def allowed(self, given: str, method: str, parts: list[str]) -> None:
        """Raise `RefusedError` unless the key or token is good for this request."""
        if given == self.key:
            return
        access = self._claims(given)
        reads = method == "GET" or parts[-1] in READS or parts[-2:] == ["query", "batch"]
        reads = reads and not (method == "PUT" and parts[-1] == "points")
        if access == "m" or (access == "r" and reads):
            return
        named = parts[1] if len(parts) > 1 else ""
        rights = {a["collection"]: a["access"] for a in access} if access not in ("r", "m") else {}
        if named not in rights or (rights[named] == "r" and not reads):
            raise RefusedError(403, f"Access to {named or parts[0]} is required")

    def _claims(self, given: str) -> Any:
        try:
            head, body, signature = given.split(".")
            wanted = hmac.digest(self.key.encode(), f"{head}.{body}".encode(), "sha256")
            said = json.loads(urlsafe_b64decode(body + "=="))
            good = hmac.compare_digest(urlsafe_b64decode(signature + "=="), wanted)
        except ValueError:
            good, said = False, {}
        if not good or said.get("exp", time.time() + 1) <= time.time():
            raise RefusedError(401, "Invalid API key or JWT")
        return said["access"]

    # What is asked

    def answer(self, method: str, parts: list[str], body: Body) -> Any:
        """The result of a request; raises `RefusedError`."""
        match method, parts:
            case "GET", ["collections"]:
                return {"collections": [{"name": name} for name in self.collections]}
            case "GET", ["aliases"]:
                return {"aliases": self._aliases(lambda _: True)}
            case "POST", ["collections", "aliases"]:
                return self._realias(body["actions"])
            case "GET", ["collections", name, "exists"]:
                return {"exists": name in self.collections}
            case "PUT", ["collections", name]:
                return self._make(name, body)
            case "DELETE", ["collections", name]:
                return self._drop(name)
        found = self.named(parts[1])
        with found.lock:
            return self._ask(found, method, parts, body)

    def named(self, name: str) -> Collection:
        """The collection of that name, or that the alias leads to."""
        with self.lock:
            found = self.collections.get(self.aliases.get(name, name))
        if found is None:
            raise RefusedError(404, f"Not found: Collection `{name}` doesn't exist!")
        return found

    def _aliases(self, wanted: Callable[[str], bool]) -> list[Body]:
        return [
            {"alias_name": a, "collection_name": c} for a, c in self.aliases.items() if wanted(c)
        ]

    def _realias(self, actions: list[Body]) -> bool:
        with self.lock:
            for action in actions:
                if gone := action.get("delete_alias"):
                    self.aliases.pop(gone["alias_name"], None)
                if made := action.get("create_alias"):
                    self.named(made["collection_name"])
                    self.aliases[made["alias_name"]] = made["collection_name"]
        return True

    def _make(self, name: str, body: Body) -> bool:
        with self.lock:
            if name in self.collections:
                raise RefusedError(409, f"Collection `{name}` already exists!")
            self.collections[name] = Collection(self.folder / uuid.uuid4().hex, body)
        return True

    def _drop(self, name: str) -> bool:
        with self.lock:
            found = self.collections.pop(name, None)
            self.aliases = {a: c for a, c in self.aliases.items() if c != name}
        if found:
            found.shard.close()
            shutil.rmtree(found.folder)
        return found is not None

    def _ask(self, at: Collection, method: str, parts: list[str], body: Body) -> Any:
        done = {"operation_id": 0, "status": "completed"}
        match method, parts[2:]:
            case "GET", []:
                return at.info()
            case "GET", ["aliases"]:
                return {"aliases": self._aliases(lambda c: self.collections.get(c) is at)}
            case "GET", ["cluster"]:
                return {"shard_count": 1, "local_shards": [{"shard_id": 0, "state": "Active"}]}
            case "POST", ["shards", "0", "snapshots"]:
                made = self.snapshots[uuid.uuid4().hex] = at.snapshot()
                (name,) = (n for n, held in self.snapshots.items() if held is made)
                return {"name": name, "checksum": hashlib.sha256(made).hexdigest()}
            case "GET", ["shards", "0", "snapshots", name]:
                return Response(self.snapshots[name])
            case "DELETE", ["shards", "0", "snapshots", name]:
                return bool(self.snapshots.pop(name))
            case "POST", ["shards", "0", "snapshots", "upload"]:
                return at.restore(body["file"]) or True
            case "PATCH", []:
                return at.change(body) or True
            case "PUT", ["index"]:
                at.schema[body["field_name"]] = body["field_schema"]
                return done
            case "PUT", ["points"]:
                return at.upsert(body["points"]) or done
            case "POST", ["points"]:
                return at.retrieve(body)
            case "POST", ["points", "delete"]:
                return at.delete(body) or done
            case "POST", ["points", "batch"]:
                at.batch(body["operations"])
                return [done for _ in body["operations"]]
            case "POST", ["points", "scroll"]:
                return at.scroll(body)
            case "POST", ["points", "count"]:
                return {"count": at.shard.count(q.CountRequest())}
            case "POST", ["points", "query", "batch"]:
                return [at.query(search) for search in body["searches"]]
        raise RefusedError(404, f"{method} /{'/'.join(parts)}: not of this server")

    async def __call__(self, request: Request) -> Response:
        """One request."""
        parts = request.url.path.strip("/").split("/")
        given = request.headers.get("api-key") or request.headers.get("authorization", "")
        try:
            self.allowed(given.removeprefix("Bearer "), request.method, parts)
            raw = await request.body()
            self.before(request.method, request.url.path)
            result = await run_in_threadpool(self.answer, request.method, parts, _body(raw))
        except RefusedError as error:
            told = {"status": {"error": str(error)}, "time": 0}
            return JSONResponse(told, error.status)
        if isinstance(result, Response):
            return result
        return JSONResponse({"result": result, "status": "ok", "time": 0})

    def app(self) -> Starlette:
        """The ASGI application."""
        methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        return Starlette(routes=[Route("/{path:path}", self.__call__, methods=methods)])


@contextmanager
def qdrant_server(key: str) -> Iterator[tuple[Server, str]]:
    """A server of its own inside the block, and its `qdrant://` URL."""
    with tempfile.TemporaryDirectory(prefix="qdrant-") as folder:
        made, url = Server(Path(folder), key), free_url()
        with serving(made.app(), url):
            yield made, url.replace("http://", "qdrant://")


@dataclass(frozen=True, slots=True)
class Database:
    """A server as a platform knows it; `server` is None where QDRANT_URL names one."""

    url: str
    credentials: Mapping[str, Path]
    server: Server | None


@contextmanager
def qdrant_database(folder: Path) -> Iterator[Database]:
    """The server that QDRANT_URL names, else one of this process, with a login for each service."""
    if url := os.environ.get("QDRANT_URL"):
        file = Path(os.environ["QDRANT_API_KEY_FILE"])
        try:
            yield Database(url, _logins(folder, read_credentials(file).password), None)
        finally:
            asyncio.run(_leave(url, file))
        return
    key = secrets.token_hex(24)
    with qdrant_server(key) as (server, url):
        yield Database(url, _logins(folder, key), server)


async def _leave(url: str, file: Path) -> None:
    """Nothing of the suite's tenants stays on a server that is not ours."""
    store, admin = open_store(url, file), open_admin(url, file)
    for tenant in await store.tenants():
        if tenant.startswith("conformance"):
            await admin.deprovision(tenant)
    await store.close()
    await admin.close()


def _logins(folder: Path, key: str) -> dict[str, Path]:
    """Tokens that read and write, as docs/fork.md has them, and the key itself."""
    tokens = {name: jwt.encode({"access": right}, key) for name, right in _RIGHTS.items()}
    made = {}
    for name, password in {**tokens, "rag_admin": key}.items():
        made[name] = folder / f"{name}.json"
        made[name].write_text(json.dumps({"username": name, "password": password}))
    return made


_RIGHTS = {"rag_reader": "r", "rag_writer": "m"}
