"""A platform in one process: the real store and ingestion, made-up embeddings, a small retrieval."""

import asyncio
import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import httpx
import jwt
import numpy as np
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

from conformance.children import free_url
from conformance.corpora.prepare import provision
from conformance.targets import http
from conformance.targets.base import Description, Schedule
from conformance.targets.local import LocalTarget
from conformance.targets.processes import SupervisorProcesses, serving
from conformance.targets.proxy import slowed
from rag_common.late_interaction import maxsim, pack, unpack
from rag_common.tenancy import HEADER, InvalidTokenError, TokenVerifier
from rag_ingestion.settings import Settings as IngestSettings
from rag_ingestion.sync import ingest
from rag_retrieval.hnsw_metric import read_hnsw
from rag_retrieval.metrics import FAST, SLOW
from rag_store import open_store
from rag_store.base import (
    Chunk,
    Document,
    EmbeddedChunk,
    Hit,
    HnswParameters,
    IndexBusyError,
    SearchMode,
    StoreError,
)
from rag_store.qdrant.client import connect
from rag_store.qdrant.registry import QdrantRegistry

DIMENSION = 128
NAMES = ("alba", "brun", "cora", "dane", "egon", "faro", "gala", "hulm", "iver", "jura",
         "kolm", "luvo", "mero", "nilo", "orta")  # fmt: skip
SYNONYMS = {f"{name[::-1]}x": name for name in NAMES}
YEARS = (1970, 1985)
SCHEDULED = "conformance-scheduled"
KNOWN = {"query", "top_n", "mode", "rerank", "exact"}
Intercept = Callable[[Request], Response | None]


def write_corpus(folder: Path) -> Path:
    """Thirty documents in pairs that differ in a year; each has a question with a synonym."""
    documents, queries = [], []
    for word, name in SYNONYMS.items():
        for year in YEARS:
            text = f"The {name} pump with its {name} motor is built since {year}."
            key = f"{name}-{year}"
            documents.append({"id": key, "title": f"{name.title()} pump", "text": text})
            asked = f"Which {word} dates of {year}?"
            queries.append(
                {"id": f"q-{key}", "query": asked, "answerable": True, "relevant": [key]}
            )
    folder.mkdir(exist_ok=True)
    for file, rows in (("documents.jsonl", documents), ("queries.jsonl", queries)):
        (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def _direction(word: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8])
    vector = np.random.default_rng(seed).normal(size=DIMENSION)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def _words(text: str) -> list[str]:
    return [SYNONYMS.get(word, word) for word in re.findall(r"\w+", text.lower())]


def dense(text: str) -> np.ndarray:
    """Knows synonyms, is blind to numbers, and has some noise of its own for every text."""
    weight = {True: 1.0, False: 0.02}
    total = sum(weight[w in NAMES] * _direction(w) for w in _words(text) if not w.isdigit())
    vector = np.asarray(total, np.float32) + 0.05 * _direction(text)
    return vector / np.linalg.norm(vector)


def late(text: str) -> np.ndarray:
    """A vector for each word, numbers among them."""
    return np.stack([_direction(word) for word in _words(text)] or [_direction("")])


def _tokenizer() -> str:
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        "[CLS] $A [SEP]", None, [("[CLS]", 1), ("[SEP]", 2)]
    )
    return str(tokenizer.to_str())


class Embedding:
    """The embedding service's contract."""

    def __init__(self) -> None:
        self.drop = 0  # how many vectors an answer lacks
        self.card = {"id": "fake", "digest": "sha256:fake", "dimension": DIMENSION,
                     "max_tokens": 256, "outputs": ["dense", "late"]}  # fmt: skip

    def app(self) -> Starlette:
        """The ASGI application."""
        models = JSONResponse({"data": [self.card]})
        tokenizer = Response(_tokenizer(), media_type="application/json")

        async def embeddings(request: Request) -> Response:
            body = await request.json()
            items = [self._item(i, text, body) for i, text in enumerate(body["input"])]
            return JSONResponse({"data": items[self.drop :], "model_digest": self.card["digest"]})

        return Starlette(
            routes=[
                Route("/v1/models", lambda _: models),
                Route("/v1/models/{name}/tokenizer", lambda _: tokenizer),
                Route("/v1/embeddings", embeddings, methods=["POST"]),
            ]
        )

    def _item(self, index: int, text: str, body: dict[str, Any]) -> dict[str, Any]:
        vector: Any = dense(text)
        packed = body.get("encoding_format") == "base64"
        shown = base64.b64encode(vector.tobytes()).decode() if packed else vector.tolist()
        item = {"index": index, "embedding": shown}
        if "late" in body.get("outputs", ()):
            tokens = pack(late(text), pool=body["input_type"] == "document")
            item["late"] = base64.b64encode(tokens).decode()
        return item


class Retrieval:
    """`/v1/retrieve` and the staleness metric on the real store; one application a way in."""

    def __init__(self, target: "DataTarget") -> None:
        self.target = target
        self.settings = {"EMBEDDING_URL": target.description.embedding_url}
        self.intercept: Intercept = lambda request: None
        self.answers_as = ""  # a tenant in whose name every answer is made
        self.believed = "nothing"  # a header that names the tenant to whoever sends it
        self.mute = False
        self.registry = CollectorRegistry()
        self.latency = Histogram(
            "rag_retrieval_latency_seconds", "-", buckets=FAST + SLOW, registry=self.registry
        )
        self.store_latency = Histogram(
            "rag_vectordb_query_latency_seconds", "-", buckets=FAST + SLOW, registry=self.registry
        )
        self.clock_error_hours = 0.0
        self.stores: dict[tuple[asyncio.AbstractEventLoop, str], Any] = {}
        self.clients: dict[tuple[asyncio.AbstractEventLoop, str], httpx.AsyncClient] = {}

    def app(self, tenant_of: Callable[[Request], str]) -> Starlette:
        """An application that takes the tenant from `tenant_of(request)`."""

        async def retrieve(request: Request) -> Response:
            if told := self.intercept(request):
                return told
            try:
                tenant = request.headers.get(self.believed) or tenant_of(request)
            except (InvalidTokenError, jwt.InvalidTokenError) as error:
                return JSONResponse({"title": str(error)}, 401)
            body = await request.json()
            if request.url.path == "/v1/answer":
                return await self._answered(self.answers_as or tenant, body)
            return await self._retrieve(tenant, body)

        return Starlette(
            routes=[
                Route("/v1/retrieve", retrieve, methods=["POST"]),
                Route("/v1/answer", retrieve, methods=["POST"]),
                Route("/metrics", self._metrics),
            ]
        )

    async def _retrieve(self, tenant: str, body: dict[str, Any]) -> Response:
        if unknown := body.keys() - KNOWN:
            return JSONResponse({"title": f"unknown: {unknown}"}, 400)
        started = time.perf_counter()
        vector, tokens = await self._embedded(body["query"])
        try:
            mode = SearchMode(body.get("mode", "hybrid"))
            exact = body.get("exact", False)
            with self.store_latency.time():
                hits = await self._open().search(
                    tenant, body["query"], vector, mode=mode, limit=20, exact=exact, with_late=True
                )
        except StoreError as error:
            return JSONResponse({"title": str(error)}, 503)
        if body.get("rerank", True):
            scores = maxsim(tokens, [hit.late or b"" for hit in hits]) if hits else []
            hits = [hits[i] for i in np.argsort(-np.asarray(scores), kind="stable")]
        seconds = time.perf_counter() - started
        self.latency.observe(seconds)
        return JSONResponse(_answer(hits[: body.get("top_n", 5)], seconds))

    async def _answered(self, tenant: str, body: dict[str, Any]) -> Response:
        """The first passage as the answer."""
        if body.keys() != {"question"}:
            return JSONResponse({"title": f"unknown: {body.keys()}"}, 400)
        found = await self._retrieve(tenant, {"query": body["question"], "top_n": 1})
        cited = json.loads(bytes(found.body)).get("results", [])
        sentences = [{"text": c["text"], "citations": [c["chunk_id"]]} for c in cited]
        told = {"status": "answered", "answer": "", "sentences": sentences, "citations": cited}
        return JSONResponse(told, found.status_code)

    async def _embedded(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        body = {"model": "fake", "input": [text], "input_type": "query", "outputs": ["late"]}
        answer = await self._client().post("/v1/embeddings", json=body)
        (item,) = answer.json()["data"]
        return np.asarray(item["embedding"], np.float32), unpack(base64.b64decode(item["late"]))

    def _client(self) -> httpx.AsyncClient:
        key = asyncio.get_running_loop(), self.settings["EMBEDDING_URL"]
        if key not in self.clients:
            self.clients[key] = http.async_client(key[1], 30)
        return self.clients[key]

    def _open(self) -> Any:
        ef_search = self.settings.get("HNSW_EF_SEARCH", "128")
        key = asyncio.get_running_loop(), ef_search
        if key not in self.stores:
            told, hnsw = self.target.description, HnswParameters(ef_search=int(ef_search))
            self.stores[key] = open_store(told.vector_db_url, told.credentials["reader"], hnsw=hnsw)
        return self.stores[key]

    async def _metrics(self, _: Request) -> Response:
        store = self._open()
        states = {name: await store.sync_state(name) for name in await store.tenants()}
        searched = await read_hnsw(store)
        hours = {
            name: (time.time() - state.finished_at.timestamp()) / 3600 + self.clock_error_hours
            for name, state in states.items()
            if state and not self.mute
        }
        lines = (f'rag_index_staleness_hours{{tenant="{n}"}} {h}\n' for n, h in hours.items())
        used = (
            f'rag_vectordb_hnsw_ef_search{{tenant="{n}"}} {p.ef_search}\n'
            for n, p in searched.items()
            if not self.mute
        )
        return PlainTextResponse("".join([*lines, *used]) + generate_latest(self.registry).decode())

    def close(self) -> None:
        """Close each store in the loop that opened it."""
        for (loop, _), store in self.stores.items():
            asyncio.run_coroutine_threadsafe(store.close(), loop).result(10)
        for (loop, _), client in self.clients.items():
            asyncio.run_coroutine_threadsafe(client.aclose(), loop).result(10)


def _answer(hits: Sequence[Hit], seconds: float) -> dict[str, Any]:
    results = [
        {"chunk_id": h.chunk.chunk_id, "doc_id": h.chunk.doc_id, "text": h.chunk.text} for h in hits
    ]
    return {"results": results, "relevance": 0.9, "timings_ms": {"total": seconds * 1000}}


class DataTarget(LocalTarget):
    """The local target, but with `rag-ingest` run in this process unless it is to be killed."""

    slow_url = ""
    processes: Any  # the schedule alone

    def ingest(self, folder: Path, tenant: str, **environment: str) -> dict[str, Any]:
        """The real ingestion, without a process of its own."""
        url, file = self.description.vector_db_url, self.description.credentials["writer"]
        settings = IngestSettings(
            embedding_url=self.description.embedding_url,
            vector_db_url=url,
            vector_db_credentials_file=file,
        )
        try:
            report = asyncio.run(ingest(str(folder), tenant, settings))
        except IndexBusyError:  # by a process that was killed
            self.a_minute_passes(tenant)
            report = asyncio.run(ingest(str(folder), tenant, settings))
        return dict(json.loads(report.to_json()))

    def a_minute_passes(self, tenant: str) -> None:
        """The claims of dead writers are void: what a store with leases has made of them by then."""
        asyncio.run(self._void(tenant))

    async def _void(self, tenant: str) -> None:
        client = connect(self.description.vector_db_url, self.description.credentials["admin"])
        registry = QdrantRegistry(client)
        try:
            for key in await registry.read(tenant):
                if key.startswith("claim-"):
                    await registry.remove(tenant, key)
        finally:
            await client.close()

    def ingest_environment(self) -> dict[str, str]:
        """A process that is to be killed must be slow enough for it."""
        slow = {"EMBEDDING_URL": self.slow_url, "EMBED_BATCH": "1", "EMBED_IN_FLIGHT": "1"}
        return super().ingest_environment() | slow


class Scheduler:
    """Stands for the supervised program `ingestion`: syncs the scheduled source until stopped."""

    def __init__(self, target: DataTarget) -> None:
        self.target, self.idle, self.ended = target, threading.Event(), threading.Event()
        self.syncing = threading.Lock()

    @contextmanager
    def running(self) -> Iterator[None]:
        """The schedule is kept inside the block."""
        schedule = self.target.schedule()
        asyncio.run(provision(self.target, schedule.tenant))
        self.target.ingest(Path(schedule.source), schedule.tenant)
        thread = threading.Thread(target=self._sync, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.ended.set()
            thread.join(30)

    stand_in = SupervisorProcesses.stand_in

    def _sync(self) -> None:
        schedule = self.target.schedule()
        while not self.ended.wait(schedule.every_seconds):
            with self.syncing:
                if not self.idle.is_set():
                    self.target.ingest(Path(schedule.source), schedule.tenant)

    @contextmanager
    def stopped(self, *names: str) -> Iterator[None]:
        """No sync begins inside the block, and none is under way."""
        assert names == ("ingestion",)
        with self.syncing:
            self.idle.set()
        try:
            yield
        finally:
            self.idle.clear()


def _keys(folder: Path) -> tuple[Path, Path]:
    key = Ed25519PrivateKey.generate()
    private, public = folder / "key.pem", folder / "key.pub.pem"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return private, public


class Database(Protocol):
    """Where a store is, and the credentials file of each login."""

    @property
    def url(self) -> str:
        """Without a password."""

    @property
    def credentials(self) -> Mapping[str, Path]:
        """Of `rag_reader`, `rag_writer` and `rag_admin`."""


class Platform:
    """The target with the services behind it."""

    def __init__(self, database: Database, folder: Path) -> None:
        private, self.public = _keys(folder)
        source = folder / "source"
        source.mkdir()
        (source / "about.md").write_text("# Schedule\n\nThis folder is synced.\n")
        files = {n: database.credentials[f"rag_{n}"] for n in ("reader", "writer", "admin")}
        self.description = Description(
            environment="local",
            gateway_url=free_url(),
            retrieval_url=free_url(),
            embedding_url=free_url(),
            guard_url="unix:/nowhere",
            vector_db_url=database.url,
            credentials=files,
            jwt_signing_key=private,
            tenant_signing_key=private,
            schedule=Schedule(SCHEDULED, str(source), 0.2),
        )
        self.target = DataTarget(self.description)
        self.target.processes = Scheduler(self.target)
        self.embedding = Embedding()
        self.retrieval = Retrieval(self.target)

    def by_token(self, request: Request) -> str:
        """The tenant in the tenant token."""
        return TokenVerifier(self.public).verify(request.headers.get(HEADER)).tenant

    def by_jwt(self, request: Request) -> str:
        """The tenant in the caller's JWT."""
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        key = self.public.read_text()
        claims = jwt.decode(token, key, algorithms=["EdDSA"], audience="rag-gateway")
        return str(claims["tenant"])

    @contextmanager
    def running(self) -> Iterator["Platform"]:
        """The services answer inside the block."""
        told = self.description
        with ExitStack() as stack:
            stack.enter_context(serving(self.embedding.app(), told.embedding_url))
            stack.enter_context(serving(self.retrieval.app(self.by_token), told.retrieval_url))
            stack.enter_context(serving(self.retrieval.app(self.by_jwt), told.gateway_url))
            stack.callback(self.retrieval.close)
            stack.enter_context(self.target.processes.running())
            slow = slowed(self.target, "embedding", seconds=0.1)
            self.target.slow_url = stack.enter_context(slow)
            yield self

    @contextmanager
    def reconfigured(self, target: Any, name: str, **settings: str) -> Iterator[None]:
        """Stands for a restart of retrieval with other settings."""
        before = self.retrieval.settings
        self.retrieval.settings = before | settings
        try:
            yield
        finally:
            self.retrieval.settings = before

    @contextmanager
    def another_tenants_answers(self, target: Any, tenant: str) -> Iterator[None]:
        """Stands for a proxy that swaps the tenant token of `/v1/answer`."""
        self.retrieval.answers_as = tenant
        try:
            yield
        finally:
            self.retrieval.answers_as = ""

    @contextmanager
    def crowded(self, tenant: str, chunks: int) -> Iterator[None]:
        """Inside the block the tenant's index also holds a document of `chunks` vectors by chance."""
        asyncio.run(self._crowd(tenant, chunks))
        try:
            yield
        finally:
            asyncio.run(self._crowd(tenant, 0))

    async def _crowd(self, tenant: str, chunks: int) -> None:
        store, name = self.target.store("writer"), "crowd.md"
        document = Document(name, "file:///crowd", "Crowd", "x", datetime.now(UTC))
        made = [
            EmbeddedChunk(Chunk(f"{name}#{n}", name, n, "crowd", (), 0, 5, 1), _direction(f"{n}"))
            for n in range(chunks)
        ]
        try:
            generation = await store.active_generation(tenant)
            if made:
                await store.upsert(tenant, generation.id, document, made)
            else:
                await store.delete(tenant, generation.id, [name])
        finally:
            await store.close()
