"""A store in memory, an embedding service with faults on request, and settings for both."""

import asyncio
import base64
import hashlib
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI, Request, Response
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

from rag_common.http import bind_socket
from rag_ingestion.settings import Settings
from rag_store.base import (
    Counts,
    Document,
    EmbeddedChunk,
    EmbeddingModel,
    Generation,
    GenerationState,
    IndexBusyError,
    StoreUnavailableError,
    SyncState,
)


class MemoryLease:
    """Lost as soon as a test says so."""

    lost = False

    async def check(self) -> None:
        if self.lost:
            raise StoreUnavailableError("another may write now")


class MemoryStore:
    """The parts of `VectorStore` that ingestion uses, in memory."""

    def __init__(self) -> None:
        self.all: dict[str, Generation] = {}
        self.rows: dict[str, dict[str, tuple[Document, list[EmbeddedChunk]]]] = {}
        self.synced: SyncState | None = None
        self.upserts: list[str] = []
        self.optimized = 0
        self.lease, self.writers = MemoryLease(), 0

    async def close(self) -> None:
        pass

    async def generations(self, tenant: str) -> list[Generation]:
        return list(self.all.values())

    async def ensure_generation(self, tenant: str, model: EmbeddingModel) -> Generation:
        for generation in self.all.values():
            if generation.model.digest == model.digest:
                return generation
        made = Generation(f"g{len(self.all)}-{model.digest}", model, GenerationState.BUILDING)
        self.all[made.id], self.rows[made.id] = made, {}
        return made

    async def activate(self, tenant: str, generation_id: str) -> None:
        for key, old in self.all.items():
            if old.state is GenerationState.ACTIVE:
                self.all[key] = Generation(key, old.model, GenerationState.RETIRED)
        model = self.all[generation_id].model
        self.all[generation_id] = Generation(generation_id, model, GenerationState.ACTIVE)

    async def drop_generation(self, tenant: str, generation_id: str) -> None:
        assert self.all[generation_id].state is not GenerationState.ACTIVE
        del self.all[generation_id], self.rows[generation_id]

    @asynccontextmanager
    async def exclusive(self, tenant: str) -> AsyncIterator[MemoryLease]:
        if self.writers:
            raise IndexBusyError(f"tenant {tenant!r}: another writes its index")
        self.writers += 1
        try:
            yield self.lease
        finally:
            self.writers -= 1

    async def documents(self, tenant: str, generation_id: str) -> dict[str, Document]:
        return {key: row[0] for key, row in self.rows[generation_id].items()}

    async def upsert(
        self, tenant: str, generation_id: str, document: Document, chunks: Sequence[EmbeddedChunk]
    ) -> None:
        self.upserts.append(document.doc_id)
        self.rows[generation_id][document.doc_id] = (document, list(chunks))

    async def delete(self, tenant: str, generation_id: str, doc_ids: Sequence[str]) -> None:
        for doc_id in doc_ids:
            self.rows[generation_id].pop(doc_id, None)

    async def optimize(self, tenant: str, generation_id: str) -> None:
        self.optimized += 1

    async def scan(
        self, tenant: str, generation_id: str, *, batch: int = 256
    ) -> AsyncIterator[list[tuple[Document, list[EmbeddedChunk]]]]:
        rows = self.rows[generation_id]
        yield [rows[key] for key in sorted(rows)]

    async def counts(self, tenant: str, generation_id: str) -> Counts:
        rows = self.rows[generation_id].values()
        return Counts(len(rows), sum(len(chunks) for _, chunks in rows))

    async def record_sync(self, tenant: str, state: SyncState) -> None:
        self.synced = state

    @property
    def active(self) -> dict[str, tuple[Document, list[EmbeddedChunk]]]:
        """The rows that queries would read."""
        (key,) = [g.id for g in self.all.values() if g.state is GenerationState.ACTIVE]
        return self.rows[key]


class FakeEmbedder:
    """The embedding service's contract over HTTP, with vectors made of each text's hash."""

    def __init__(self, tokenizer: str) -> None:
        self.tokenizer = tokenizer
        self.digest = "model-1"
        self.name = "fake"
        self.outputs = ["dense", "late"]
        self.dimension = 8
        self.max_tokens = 256
        self.texts: list[str] = []
        self.faults: deque[Response] = deque()
        self.tamper: Callable[[dict[str, Any]], None] = lambda answer: None
        self.url = ""
        self.waiting, self.asked = False, 0

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/v1/models")
        def models() -> dict[str, Any]:
            card = {
                "id": self.name,
                "object": "model",
                "digest": self.digest,
                "dimension": self.dimension,
                "max_tokens": self.max_tokens,
                "outputs": self.outputs,
            }
            return {"object": "list", "data": [card]}

        @app.get("/v1/models/{name}/tokenizer")
        def tokenizer(name: str) -> Response:
            return Response(self.tokenizer, media_type="application/json")

        @app.post("/v1/embeddings", response_model=None)
        async def embeddings(request: Request) -> dict[str, Any] | Response:
            if self.faults:
                return self.faults.popleft()
            body = await request.json()
            self.asked += 1
            while self.waiting:
                await asyncio.sleep(0.01)
            self.texts += body["input"]
            data = [self._item(i, text, body["outputs"]) for i, text in enumerate(body["input"])]
            answer = {"object": "list", "data": data[::-1], "model_digest": self.digest}
            self.tamper(answer)
            return answer

        return app

    def _item(self, index: int, text: str, outputs: list[str]) -> dict[str, Any]:
        seed = hashlib.sha256(text.encode()).digest()
        vector = np.frombuffer(seed[: self.dimension], np.uint8).astype("<f4") + 1
        vector /= np.linalg.norm(vector)
        item = {
            "index": index,
            "embedding": base64.b64encode(vector.tobytes()).decode(),
            "truncated": False,
        }
        return item | ({"late": base64.b64encode(seed).decode()} if "late" in outputs else {})


@pytest.fixture(scope="session")
def tokenizer_json() -> str:
    """A tokenizer that takes every word and every punctuation mark for one token."""
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        "[CLS] $A [SEP]", None, [("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.enable_truncation(128)
    tokenizer.enable_padding(length=128)
    return tokenizer.to_str()


@pytest.fixture(scope="session")
def tokenizer_file(tokenizer_json: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(tokenizer_json)
    return str(path)


@pytest.fixture
def embedder(tokenizer_json: str) -> Iterator[FakeEmbedder]:
    fake = FakeEmbedder(tokenizer_json)
    sock = bind_socket("127.0.0.1:0")
    fake.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(fake.app(), log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield fake
    server.should_exit = True
    thread.join()


@pytest.fixture
def memory() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    return path


@pytest.fixture
def settings(embedder: FakeEmbedder, tmp_path: Path) -> Settings:
    return Settings(
        embedding_url=embedder.url,
        vector_db_url="postgresql:///unused",
        vector_db_credentials_file=tmp_path / "unused",
        ingest_retry_seconds=5,
    )
