"""Qdrant's HTTP API, as far as the project asks it, over Qdrant's own engine in this process.

Collections' names, aliases, tokens and snapshots' files are here; `_qdrant_engine.py` has the rest.
"""

import asyncio
import hashlib
import hmac
import json
import os
import secrets
import shutil
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
from conformance.tests._qdrant_engine import Body, Collection, RefusedError
from rag_common.files import read_credentials
from rag_store import open_admin, open_store

READS = ("GET", "scroll", "query", "count", "points")


def _body(raw: bytes) -> Body:
    """JSON, or the one file of a form."""
    if raw.startswith(b"--"):
        return {"file": raw.split(b"\r\n\r\n", 1)[1].rpartition(b"\r\n--")[0]}
    return dict(json.loads(raw)) if raw else {}


class Server:
    """Collections, aliases, and who may ask for what; `key` signs the tokens."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key, self.lock = folder, key, threading.RLock()
        self.collections: dict[str, Collection] = {}
        self.aliases: dict[str, str] = {}
        self.snapshots: dict[str, bytes] = {}

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
