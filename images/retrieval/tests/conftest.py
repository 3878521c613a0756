"""The service on real sockets. Peers are small servers of their own; only what they say is made up."""

import asyncio
import base64
import contextlib
import dataclasses
import hashlib
import json
import re
import shutil
import tempfile
import threading
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
import uvicorn
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from rag_common.files import Credentials
from rag_common.http import bind_socket
from rag_common.late_interaction import pack
from rag_common.tenancy import HEADER, TenantClaims, TokenMinter
from rag_retrieval.app import create_app
from rag_retrieval.audit import read
from rag_retrieval.parts import open_parts
from rag_retrieval.settings import Settings
from rag_store.base import (
    Chunk,
    Document,
    EmbeddedChunk,
    EmbeddingModel,
    Generation,
    GenerationState,
    Hit,
    HnswParameters,
    ModelMismatchError,
    NoActiveGenerationError,
    StoreUnavailableError,
    SyncState,
    UnknownTenantError,
)

DIMENSION, LATE = 64, 16
MODEL = EmbeddingModel("toy", "d" * 64, DIMENSION)
DOCUMENTS = {
    "leave.md": "Employees receive 25 days of paid leave per year. Leave must be approved by a manager.",
    "vpn.md": "The VPN client connects to the office network. Restart the VPN client after an update.",
    "travel.md": "Travel expenses are refunded within 30 days. Receipts are required for every expense.",
    "parking.md": "Parking permits cost 40 euro per month. Permits are issued at the reception desk.",
    "lunch.md": "The canteen serves lunch from 11:30 to 14:00. Vegetarian dishes are always available.",
    "security.md": "Report a phishing mail to the security team. Never share your password with anybody.",
}


def words(text):
    return re.findall(r"[a-z0-9]+", text.lower())


def _word_vector(word, size):
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
    vector = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    return vector / np.linalg.norm(vector)


def dense(text):
    """A bag of words, so that similar texts have similar vectors."""
    total = sum((_word_vector(w, DIMENSION) for w in words(text)), np.zeros(DIMENSION, np.float32))
    return (total / max(np.linalg.norm(total), 1e-9)).astype(np.float32)


def late(text):
    vectors = [_word_vector(w, LATE) for w in words(text)] or [np.zeros(LATE, np.float32)]
    return pack(np.stack(vectors), pool=False)


def embedded(doc_id, text):
    chunk = Chunk(f"{doc_id}#0", doc_id, 0, text, ("Handbook",), 0, len(text), len(words(text)))
    return EmbeddedChunk(chunk, dense(text), late(text))


def document(doc_id, text):
    digest = hashlib.sha256(text.encode()).hexdigest()
    title = doc_id.removesuffix(".md").title()
    return Document(doc_id, f"file:///{doc_id}", title, digest, datetime.now(UTC))


@pytest.fixture(scope="session")
def toy_corpus():
    """The documents and the toy model, for a real store."""
    return SimpleNamespace(DOCUMENTS=DOCUMENTS, MODEL=MODEL, embedded=embedded, document=document)


class MemoryStore:
    """The part of a store that the service uses, with faults to switch on."""

    def __init__(self):
        self.rows = {"acme": dict(DOCUMENTS), "beta": {"x.md": "Beta sells garden tools."}}
        self.syncs = {"acme": SyncState(datetime.now(UTC), None, 6, 6)}
        self.empty = {"fresh"}
        self.model = MODEL
        self.down = False
        self.delay = 0.0
        self.failures_left = 0
        self.without_late = set()
        self.searches = []
        self.closed = False

    def _up(self):
        if self.failures_left:
            self.failures_left -= 1
            raise StoreUnavailableError("connection reset")
        if self.down:
            raise StoreUnavailableError("connection refused")

    async def close(self):
        self.closed = True

    async def ping(self):
        self._up()

    async def tenants(self):
        self._up()
        return sorted(self.rows)

    async def sync_state(self, tenant):
        return self.syncs.get(tenant)

    async def hnsw(self, tenant, generation_id):
        return HnswParameters(ef_search=77)

    async def active_generation(self, tenant):
        self._up()
        if tenant in self.empty:
            raise NoActiveGenerationError(tenant)
        if tenant not in self.rows:
            raise UnknownTenantError(tenant)
        return Generation("g1", self.model, GenerationState.ACTIVE)

    async def search(self, tenant, text, vector, *, model_digest, mode, limit, exact, with_late):
        self._up()
        await asyncio.sleep(self.delay)
        if model_digest != self.model.digest:
            raise ModelMismatchError(f"{model_digest} is not the index's")
        self.searches.append((tenant, text, mode, limit, exact, with_late))
        hits = [self._hit(d, t, vector, with_late) for d, t in self.rows[tenant].items()]
        ranked = sorted(hits, key=lambda hit: -hit.score)[:limit]
        return [dataclasses.replace(hit, dense_rank=n) for n, hit in enumerate(ranked, 1)]

    def _hit(self, doc_id, text, vector, with_late):
        item, source = embedded(doc_id, text), document(doc_id, text)
        score = float(item.dense @ vector)
        packed = item.late if with_late and doc_id not in self.without_late else None
        return Hit(item.chunk, source.uri, source.title, score, dense_score=score, late=packed)


class Embedder:
    """Speaks `/v1/embeddings` with bag-of-words vectors."""

    def __init__(self):
        embed = Route("/v1/embeddings", self.embed, methods=["POST"])
        self.app = Starlette(routes=[embed, Route("/v1/models", self.models)])

    def reset(self):
        self.digest, self.status, self.delay, self.broken = MODEL.digest, 200, 0.0, False
        self.calls = []

    async def models(self, _):
        return JSONResponse({"object": "list", "data": []}, status_code=self.status)

    async def embed(self, request):
        body = await request.json()
        self.calls.append(body)
        await asyncio.sleep(self.delay)
        if self.broken:
            return JSONResponse({"data": [{"index": 0}], "model_digest": "x"})
        if self.status != 200:
            return JSONResponse(
                {"title": "no", "detail": "told to fail"},
                status_code=self.status,
                media_type="application/problem+json",
            )
        data = [self._item(n, text, body) for n, text in enumerate(body["input"])]
        return JSONResponse({"data": data, "model_digest": self.digest})

    def _item(self, index, text, body):
        item = {"index": index, "embedding": base64.b64encode(dense(text).tobytes()).decode()}
        if "late" in body["outputs"]:
            item["late"] = base64.b64encode(late(text)).decode()
        return item


class Guard:
    """Flags texts that hold a marker."""

    def __init__(self):
        check = Route("/v1/check", self.check, methods=["POST"])
        self.app = Starlette(routes=[check, Route("/healthz", self.health)])

    def reset(self):
        self.status, self.marker, self.checked, self.answer = 200, "IGNORE ALL", [], None

    async def health(self, _):
        return JSONResponse({"status": "ok"}, status_code=self.status)

    async def check(self, request):
        body = await request.json()
        assert body["kind"] == "retrieved"
        self.checked += body["texts"]
        if self.answer is not None or self.status != 200:
            return JSONResponse(self.answer or {}, status_code=self.status)
        flags = [self.marker in text for text in body["texts"]]
        verdicts = [
            {"flagged": f, "rule": "override" if f else None, "score": float(f)} for f in flags
        ]
        return JSONResponse({"verdicts": verdicts})


class Llm:
    """Streams a chat completion that says what it is told to say."""

    def __init__(self):
        chat = Route("/v1/chat/completions", self.chat, methods=["POST"])
        self.app = Starlette(routes=[chat, Route("/v1/models", self.models)])

    def reset(self):
        self.sentences = [("Employees receive 25 days of paid leave per year.", ["S1"])]
        self.status, self.busy_times, self.delay, self.pause, self.calls = 200, 0, 0.0, 0.0, []
        self.closed = threading.Event()
        self.asleep, self.probes = False, 0

    async def models(self, _):
        self.probes += 1
        return JSONResponse({"data": []}, status_code=503 if self.asleep else 200)

    async def chat(self, request):
        self.calls.append(await request.json())
        if self.asleep:
            return Response("no healthy upstream", status_code=503)
        if self.busy_times:
            self.busy_times -= 1
            return Response("loading", status_code=503)
        await asyncio.sleep(self.delay)
        if self.status != 200:
            return Response("no", status_code=self.status)
        return StreamingResponse(self._stream(), media_type="text/event-stream")

    async def _stream(self):
        try:
            yield self._event('{"answer": [')
            for number, (text, sources) in enumerate(self.sentences):
                item = json.dumps({"text": text, "sources": sources})
                yield self._event((", " if number else "") + item)
                await asyncio.sleep(self.pause)
            yield self._event("]}", "stop")
            yield b"data: [DONE]\n\n"
        except asyncio.CancelledError:
            self.closed.set()
            raise

    def _event(self, text, finish=None):
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
        return b"data: " + json.dumps({"model": "toy-llm", "choices": [choice]}).encode() + b"\n\n"


class Reranker:
    """Ranks backwards, so that its effect cannot be missed."""

    def __init__(self):
        self.app = Starlette(routes=[Route("/v1/rerank", self.rerank, methods=["POST"])])

    def reset(self):
        self.status, self.results, self.headers, self.calls, self.delay = 200, None, [], [], 0.0

    async def rerank(self, request):
        body = await request.json()
        self.calls.append(body)
        self.headers.append(dict(request.headers))
        await asyncio.sleep(self.delay)
        count = len(body["documents"])
        backwards = [{"index": i, "relevance_score": i / count} for i in range(count)]
        return JSONResponse(
            {"results": backwards if self.results is None else self.results},
            status_code=self.status,
        )


@contextlib.contextmanager
def running(app, bind):
    """`app` on a real socket, in a thread with a loop of its own."""
    config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=3)
    server = uvicorn.Server(config)
    sock = bind_socket(bind)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.005)
    try:
        yield sock
    finally:
        server.should_exit = True
        thread.join(15)
        assert not thread.is_alive(), "the server did not stop"


@pytest.fixture(scope="session")
def run():
    """A short directory for sockets: their paths have at most 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="rq-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def key_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    key = Ed25519PrivateKey.generate()
    private, public = folder / "private.pem", folder / "public.pem"
    pem = serialization.Encoding.PEM
    private.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


@pytest.fixture
def token(key_files):
    """Mints tokens: `token("acme")`."""
    minter = TokenMinter(key_files[0])

    def mint(tenant="acme", user="ann", request_id=None, verdict=None):
        identity = request_id or uuid.uuid4().hex
        return minter.mint(TenantClaims(tenant, user, identity, verdict or {"flagged": False}))

    return mint


@dataclasses.dataclass
class Peers:
    embedder: Embedder
    guard: Guard
    llm: Llm
    reranker: Reranker
    settings: dict


@pytest.fixture(scope="session")
def running_peers(run):
    """The services beside this one, each on its own socket."""
    made = {"embedder": Embedder(), "guard": Guard(), "llm": Llm(), "reranker": Reranker()}
    with contextlib.ExitStack() as stack:
        for name, peer in made.items():
            stack.enter_context(running(peer.app, f"unix:{run}/{name}"))
        urls = {
            "embedding_url": f"unix:{run}/embedder",
            "guard_url": f"unix:{run}/guard",
            "llm_url": f"unix:{run}/llm",
            "rerank_url": f"unix:{run}/reranker",
        }
        yield Peers(**made, settings=urls)


@pytest.fixture
def peers(running_peers):
    """The services beside this one, behaving well until the test says otherwise."""
    for peer in (running_peers.embedder, running_peers.guard, running_peers.llm):
        peer.reset()
    running_peers.reranker.reset()
    return running_peers


@dataclasses.dataclass
class Service:
    """The service under test, reached over its socket."""

    client: httpx.Client
    parts: object
    audit_dir: Path
    token: object
    socket: str

    def post(self, path, body, *, tenant="acme", headers=None, **options):
        sent = {HEADER: self.token(tenant), **(headers or {})}
        return self.client.post(path, json=body, headers=sent, **options)

    def retrieve(self, query="How many days of paid leave do employees receive?", **body):
        tenant = body.pop("tenant", "acme")
        return self.post("/v1/retrieve", {"query": query, **body}, tenant=tenant)

    def answer(self, question="How many days of paid leave do employees receive?", **body):
        tenant = body.pop("tenant", "acme")
        return self.post("/v1/answer", {"question": question, **body}, tenant=tenant)

    def records(self, event=None):
        return [r for r in read(self.audit_dir) if event in (None, r["event"])]

    def metric(self, name, **labels):
        value = self.parts.metrics.registry.get_sample_value(name, labels)
        assert value is not None, f"no metric {name}{labels}"
        return value


@pytest.fixture
def start(run, peers, key_files, token):
    """Starts the service: `start(store, setting=value)`."""
    with contextlib.ExitStack() as stack:

        def starter(store, **settings):
            name = uuid.uuid4().hex[:8]
            audit = run / f"audit-{name}"
            values = {
                "vector_db_url": "memory:",
                "vector_db_credentials_file": run / "none",
                "llm_model": "toy-llm",
                "tenant_token_public_key_file": key_files[1],
                "audit_sink": f"file://{audit}",
                "answerable_from": 0.0,
                **peers.settings,
                **settings,
            }
            parts = open_parts(Settings(**values), store)
            address = f"{run}/{name}"
            stack.enter_context(running(create_app(parts), f"unix:{address}"))
            transport = httpx.HTTPTransport(uds=address)
            client = httpx.Client(base_url="http://rag", transport=transport, timeout=20)
            stack.callback(client.close)
            return Service(client, parts, audit, token, address)

        yield starter


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def service(start, store):
    """The service over the in-memory store, without a cache."""
    return start(store)


@pytest.fixture
def credentials_file(tmp_path):
    """Writes a credentials file: `credentials_file("user", "password")`."""

    def write(username, password):
        path = tmp_path / f"{uuid.uuid4().hex}.json"
        path.write_text(json.dumps(Credentials(username, password)._asdict()))
        return path

    return write
