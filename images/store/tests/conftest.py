"""Real stores for the tests: PostgreSQL, Qdrant's local mode or a server, Milvus Lite."""

import json
import os
import tempfile
import uuid
import warnings
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_store.base import (
    Chunk,
    Document,
    EmbeddedChunk,
    EmbeddingModel,
    StoreAdmin,
    Vector,
    VectorStore,
)
from rag_store.embedded import EmbeddedDatabase, embedded_database
from rag_store.factory import open_admin, open_store
from rag_store.pgvector import PgvectorStore

MISSING = {
    name: reason
    for name, reason in {
        "qdrant-server": None
        if os.environ.get("QDRANT_URL")
        else "QDRANT_URL names no server (qdrant://host:6333)",
        "milvus": None if find_spec("pymilvus") else "the extra `milvus` is not installed",
    }.items()
    if reason
}
BACKENDS = [n for n in ("pgvector", "qdrant", "qdrant-server", "milvus") if n not in MISSING]


@dataclass
class Backend:
    """A store to test: its writer, reader and admin, and tenants that are removed afterwards."""

    name: str
    admin: StoreAdmin
    writer: VectorStore
    reader: VectorStore
    down: VectorStore
    made: list[str] = field(default_factory=list)

    async def tenant(self) -> str:
        name = f"t-{uuid.uuid4().hex[:10]}"
        await self.admin.provision(name)
        self.made.append(name)
        return name

    async def close(self) -> None:
        for name in self.made:
            await self.admin.deprovision(name)
        for part in {id(p): p for p in (self.admin, self.writer, self.reader, self.down)}.values():
            await part.close()


@pytest.fixture(scope="session")
def database() -> Iterator[EmbeddedDatabase]:
    # Not pytest's own folder: every session on the machine makes that one private to its user
    # again, and as root the server runs as another user.
    with (
        tempfile.TemporaryDirectory(prefix="rag-store-") as folder,
        embedded_database(Path(folder), settings={"fsync": "off"}) as server,
    ):
        yield server


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps({"username": "anybody", "password": "key"}))
    return path


def _pgvector(database: EmbeddedDatabase) -> Backend:
    url, files = database.url, database.credentials
    down = PgvectorStore("postgresql://127.0.0.1:9/rag", files["rag_reader"])
    down._sessions._pool.timeout = 0.5
    return Backend(
        "pgvector",
        open_admin(url, files["rag_admin"]),
        open_store(url, files["rag_writer"]),
        open_store(url, files["rag_reader"]),
        down,
    )


def _qdrant_local(credentials: Path) -> Backend:
    from qdrant_client import AsyncQdrantClient

    from rag_store.qdrant import QdrantAdmin, QdrantStore

    client = AsyncQdrantClient(":memory:")
    store = QdrantStore(client)
    down = open_store("qdrant://127.0.0.1:9", credentials)
    return Backend("qdrant", QdrantAdmin(client), store, store, down)


def _server(name: str, url: str, credentials: Path) -> Backend:
    key = os.environ.get("QDRANT_API_KEY_FILE")
    file = Path(key) if key else credentials
    store = open_store(url, file)
    down = open_store("qdrant://127.0.0.1:9", file)
    return Backend(name, open_admin(url, file), store, open_store(url, file), down)


def _milvus(folder: Path) -> Backend:
    from rag_store.milvus import MilvusAdmin, MilvusStore, connect

    client = connect(f"milvus://{folder}/milvus.db", None)
    store = MilvusStore(client)
    return Backend("milvus", MilvusAdmin(client), store, store, store)


@pytest.fixture(params=BACKENDS)
async def backend(
    request: pytest.FixtureRequest, tmp_path: Path, credentials: Path
) -> AsyncIterator[Backend]:
    """Each store that can run here, in turn."""
    warnings.filterwarnings("ignore", message="Payload indexes have no effect")
    warnings.filterwarnings("ignore", message=".*brute-force.*")
    match request.param:
        case "pgvector":
            made = _pgvector(request.getfixturevalue("database"))
        case "qdrant":
            made = _qdrant_local(credentials)
        case "qdrant-server":
            made = _server("qdrant-server", os.environ["QDRANT_URL"], credentials)
        case _:
            made = _milvus(tmp_path)
    yield made
    await made.close()


DIMENSION = 8
MODEL = EmbeddingModel("model-a", "sha256:aaaa", DIMENSION)
OTHER = EmbeddingModel("model-b", "sha256:bbbb", 12)


class Data:
    """Documents to store; everything is a function of its arguments."""

    model, other = MODEL, OTHER

    @staticmethod
    def vector(seed: int, dimension: int = DIMENSION) -> Vector:
        values = np.random.default_rng(seed).normal(size=dimension)
        return (values / np.linalg.norm(values)).astype(np.float32)

    @staticmethod
    def document(doc_id: str, title: str = "Handbook", **changes: Any) -> Document:
        made = Document(
            doc_id,
            f"file:///{doc_id}",
            title,
            f"hash of {doc_id}",
            datetime(2026, 3, 1, 12, 30, tzinfo=UTC),
            {"tags": ["a", "b"], "size": 3},
        )
        return replace(made, **changes)

    @classmethod
    def chunks(
        cls, doc_id: str, *texts: str, seed: int = 0, dimension: int = DIMENSION
    ) -> list[EmbeddedChunk]:
        return [
            EmbeddedChunk(
                Chunk(f"{doc_id}#{n}", doc_id, n, text, ("Part", "One"), n, n + len(text), 5),
                cls.vector(seed * 1000 + n, dimension),
                f"late {doc_id} {n}".encode(),
            )
            for n, text in enumerate(texts)
        ]

    @classmethod
    async def fill(
        cls,
        store: VectorStore,
        tenant: str,
        documents: int = 12,
        model: EmbeddingModel = MODEL,
        *,
        activate: bool = True,
    ) -> str:
        """Documents `d00` …, two chunks each, in the model's generation; its id."""
        generation = await store.ensure_generation(tenant, model)
        for n in range(documents):
            await store.upsert(
                tenant, generation.id, cls.document(f"d{n:02}"), cls.two(n, model.dimension)
            )
        if activate:
            await store.activate(tenant, generation.id)
        return generation.id

    @classmethod
    def two(cls, n: int, dimension: int = DIMENSION) -> list[EmbeddedChunk]:
        topics = ["invoice", "holiday", "security", "pension", "laptop", "travel"]
        texts = f"{topics[n % 6]} policy {topics[n % 5]} " * (n + 1), f"appendix number{n} approval"
        return cls.chunks(f"d{n:02}", *texts, seed=n, dimension=dimension)


@pytest.fixture
def data() -> type[Data]:
    return Data


@pytest.fixture(params=["qdrant-server", "milvus"])
def optional_backend(request: pytest.FixtureRequest) -> str:
    if reason := MISSING.get(request.param):
        pytest.skip(reason)
    return str(request.param)


@pytest.fixture
def backends() -> list[str]:
    return BACKENDS
