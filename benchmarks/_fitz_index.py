"""fitz-gov in PostgreSQL: the real documents, embedded by the real embedder, one chunk each."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._progress import bar, say
from rag_assets import derived, fetch
from rag_common.late_interaction import pack
from rag_embedding.onnx_backend import OnnxBackend
from rag_store import open_admin, open_store
from rag_store.base import Chunk, Document, EmbeddedChunk, EmbeddingModel, VectorStore, indexed_text
from rag_store.embedded import EmbeddedDatabase, embedded_database

MODEL, TENANT, BATCH = "all-minilm-l6-v2", "bench", 64


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents as (document, chunk), questions, and the documents that answer some of them."""

    documents: Sequence[tuple[Document, Chunk]]
    questions: Sequence[str]
    relevant: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Index:
    """A filled store and what it was filled with."""

    database: EmbeddedDatabase
    corpus: Corpus
    model: EmbeddingModel
    generation: str

    @property
    def postmaster(self) -> int:
        """The process id of PostgreSQL, whose other processes are its children."""
        return int(self.database.server.get_postmaster_info().pid)

    def reader(self) -> VectorStore:
        """A store as the service opens it."""
        return open_store(self.database.url, self.database.credentials["rag_reader"])


def _document(row: dict[str, Any]) -> tuple[Document, Chunk]:
    text, title, key = row["content"].strip(), (row.get("title") or "").strip(), row["id"]
    document = Document(key, f"fitz-gov:{key}", title, key, datetime.now(UTC))
    return document, Chunk(f"{key}#0", key, 0, text, (), 0, len(text), len(text.split()))


def corpus(size: int | None = None) -> Corpus:
    """Documents with text (the last of an id), every question once, shuffled by a seed.

    All documents, or the first `size` for a quick look.
    """
    folder = fetch("fitz-gov")
    lines = (folder / "corpus/documents.jsonl").read_text(encoding="utf-8").splitlines()
    rows = {row["id"]: row for line in lines if (row := json.loads(line)).get("content")}
    found = json.loads((folder / "queries/query_mappings.json").read_text(encoding="utf-8"))
    relevant: dict[str, frozenset[str]] = {}
    for case in (case for group in found["mappings"].values() for case in group.values()):
        answers = relevant.get(case["query"], frozenset())
        relevant[case["query"]] = answers | frozenset(case["relevant_docs"])
    questions = sorted(relevant)
    np.random.default_rng(7).shuffle(questions)
    return Corpus([_document(row) for row in rows.values()][:size], questions, relevant)


def _embed(backend: OnnxBackend, texts: Sequence[str]) -> list[tuple[Any, bytes]]:
    """Dense vector and packed token vectors of each text; packed at once, for the memory's sake."""
    order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
    found: list[Any] = [None] * len(texts)
    for start in bar(range(0, len(order), BATCH), "embedding documents"):
        rows = order[start : start + BATCH]
        batch = backend.embed(
            backend.encode([texts[n] for n in rows]), frozenset({"dense", "late"})
        )
        for row, vectors in zip(rows, batch, strict=True):
            found[row] = (vectors.dense, pack(vectors.tokens, pool=True))
    return found


def _vectors(backend: OnnxBackend, chosen: Corpus) -> tuple[Any, list[bytes]]:
    """Dense vectors and packed token vectors of the documents; cached."""

    def build(folder: Path) -> None:
        texts = [indexed_text(document.title, chunk) for document, chunk in chosen.documents]
        found = _embed(backend, texts)
        np.save(folder / "dense.npy", np.stack([dense for dense, _ in found]))
        late = [packed for _, packed in found]
        np.save(folder / "late.npy", np.frombuffer(b"".join(late), np.uint8))
        np.save(folder / "sizes.npy", np.array([len(item) for item in late]))

    folder = derived("benchmark-retrieval", f"{backend.digest[:24]}-{len(chosen.documents)}", build)
    ends = np.cumsum(np.load(folder / "sizes.npy"))
    late = np.load(folder / "late.npy").tobytes()
    parts = [late[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    return np.load(folder / "dense.npy"), parts


@asynccontextmanager
async def index(folder: Path, size: int | None = None) -> AsyncIterator[Index]:
    """PostgreSQL with the corpus (its first `size` documents) indexed for `TENANT`."""
    backend, chosen = OnnxBackend(MODEL, "int8", 2), corpus(size)
    dense, late = _vectors(backend, chosen)
    model = EmbeddingModel(MODEL, backend.digest, dense.shape[1])
    with embedded_database(folder) as database:
        admin = open_admin(database.url, database.credentials["rag_admin"])
        await admin.provision(TENANT)
        await admin.close()
        writer = open_store(database.url, database.credentials["rag_writer"])
        generation = await writer.ensure_generation(TENANT, model)
        rows = list(zip(chosen.documents, dense, late, strict=True))
        for (document, chunk), vector, packed in bar(rows, "storing documents"):
            item = EmbeddedChunk(chunk, vector, packed)
            await writer.upsert(TENANT, generation.id, document, [item])
        await writer.activate(TENANT, generation.id)
        say("building the index")
        await writer.optimize(TENANT, generation.id)
        await writer.close()
        yield Index(database, chosen, model, generation.id)
