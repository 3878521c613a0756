"""HNSW with the seed's parameters against the defaults: recall, index size, build time.

The vectors are real: MiniLM (int8) over passages of the fitz-gov corpus (sentences, pairs of
sentences, windows of twelve words), queried with its real questions. PostgreSQL and the Qdrant
engine (in process) each build both indexes over the same vectors in the same run. A tenant with
0.5 % of the passages is measured beside the large one.
"""

import asyncio
import itertools
import json
import os
import re
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from benchmarks._progress import bar, say
from rag_store.base import (
    Chunk,
    Document,
    EmbeddedChunk,
    EmbeddingModel,
    HnswParameters,
    SearchMode,
    VectorStore,
)
from rag_store.embedded import EmbeddedDatabase, embedded_database
from rag_store.factory import open_admin, open_store

SIZE = int(os.environ.get("BENCHMARK_STORE_VECTORS", "50000"))
QUERIES, K = 300, 10
SEED = HnswParameters(m=32, ef_construction=200, ef_search=128)
DEFAULT = HnswParameters(m=16, ef_construction=100, ef_search=100)
LARGE, SMALL = "large", "small"
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


def _passages(content: str) -> list[str]:
    sentences = [part for part in _SENTENCE.split(content) if len(part) > 20]
    pairs = [" ".join(pair) for pair in itertools.pairwise(sentences)]
    words = content.split()
    windows = [" ".join(words[n : n + 12]) for n in range(0, len(words) - 11, 4)]
    return [*sentences, *pairs, *windows]


def _texts() -> tuple[list[str], list[str]]:
    from rag_assets import fetch

    folder = fetch("fitz-gov")
    lines = (folder / "corpus/documents.jsonl").read_text(encoding="utf-8").splitlines()
    corpus = (json.loads(line).get("content") or "" for line in lines)
    passages = list(dict.fromkeys(text for content in corpus for text in _passages(content)))
    found = json.loads((folder / "queries/query_mappings.json").read_text(encoding="utf-8"))
    queries = sorted({q["query"] for group in found["mappings"].values() for q in group.values()})
    chosen = np.random.default_rng(7)
    return (
        [passages[n] for n in chosen.choice(len(passages), SIZE, replace=False)],
        [queries[n] for n in chosen.choice(len(queries), QUERIES, replace=False)],
    )


def _embedded() -> tuple[list[str], list[str], Any, Any]:
    """Passages and questions with their vectors; the vectors are cached."""
    from rag_assets import derived
    from rag_embedding.onnx_backend import OnnxBackend

    passages, queries = _texts()
    backend = OnnxBackend("all-minilm-l6-v2", "int8", 2)

    def embed(texts: list[str]) -> Any:
        order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
        out = np.zeros((len(texts), backend.dimension), np.float32)
        for start in bar(range(0, len(order), 64), "embedding passages"):
            rows = order[start : start + 64]
            batch = backend.encode([texts[n] for n in rows])
            out[rows] = [item.dense for item in backend.embed(batch, frozenset({"dense"}))]
        return out

    def build(folder: Path) -> None:
        np.save(folder / "passages.npy", embed(passages))
        np.save(folder / "queries.npy", embed(queries))

    folder = derived("benchmark-store", f"{backend.digest[:24]}-{SIZE}", build)
    vectors = (np.load(folder / f"{name}.npy") for name in ("passages", "queries"))
    return passages, queries, *vectors


async def _load(
    store: VectorStore, tenant: str, texts: list[str], vectors: Any
) -> tuple[str, float]:
    """Store the passages, a hundred to a document; the generation and chunks per second."""
    model = EmbeddingModel("all-minilm-l6-v2", "benchmark", vectors.shape[1])
    generation = await store.ensure_generation(tenant, model)
    start = time.perf_counter()
    for first in bar(range(0, len(texts), 100), f"storing {tenant}"):
        key = f"d{first}"
        chunks = [
            EmbeddedChunk(Chunk(f"{key}#{n}", key, n, text, (), 0, len(text), 0), vector)
            for n, (text, vector) in enumerate(
                zip(texts[first : first + 100], vectors[first : first + 100], strict=True)
            )
        ]
        document = Document(key, key, "", key, datetime.now(UTC))
        await store.upsert(tenant, generation.id, document, chunks)
    return generation.id, len(texts) / (time.perf_counter() - start)


async def _search(store: VectorStore, tenant: str, vectors: Any, *, exact: bool) -> Any:
    found, seconds = [], []
    for vector in vectors:
        start = time.perf_counter()
        hits = await store.search(tenant, "", vector, mode=SearchMode.DENSE, limit=K, exact=exact)
        seconds.append(time.perf_counter() - start)
        found.append({hit.chunk.chunk_id for hit in hits})
    return found, seconds


def _recall(found: list[set[Any]], exact: list[set[Any]]) -> float:
    return statistics.fmean(len(a & b) / len(b) for a, b in zip(found, exact, strict=True))


def _quantiles(seconds: list[float]) -> dict[str, float]:
    p50, p95 = np.percentile(np.array(seconds) * 1000, [50, 95])
    return {"p50_ms": round(float(p50), 2), "p95_ms": round(float(p95), 2)}


def _index(database: EmbeddedDatabase, tenant: str, generation: str, *, drop: bool) -> int:
    """Bytes of the tenant's HNSW index, which is dropped afterwards on request."""
    name = f"tenant_{tenant}.chunk_{generation}_hnsw"
    with psycopg.connect(database.superuser_dsn) as connection:
        row = connection.execute("SELECT pg_relation_size(%s::regclass)", [name]).fetchone()
        if drop:
            connection.execute(f"DROP INDEX {name}")
    return int(row[0]) if row else 0


async def _pgvector(folder: Path) -> dict[str, Any]:
    passages, _, vectors, queries = _embedded()
    with embedded_database(folder, settings={"fsync": "off"}) as database:
        admin = open_admin(database.url, database.credentials["rag_admin"])
        figures: dict[str, Any] = {}
        for tenant in (LARGE, SMALL):
            await admin.provision(tenant)
        for name, hnsw in (("default", DEFAULT), ("seed", SEED)):
            store = open_store(database.url, database.credentials["rag_writer"], hnsw=hnsw)
            if name == "default":
                large, rate = await _load(store, LARGE, passages, vectors)
                small, _ = await _load(
                    store, SMALL, passages[: SIZE // 200], vectors[: SIZE // 200]
                )
                figures["chunks_per_second"] = round(rate, 1)
            say(f"PostgreSQL: building the {name} index")
            start = time.perf_counter()
            await store.optimize(LARGE, large)
            build = time.perf_counter() - start
            await store.activate(LARGE, large)
            figures[name] = await _measured(store, LARGE, queries)
            figures[name]["build_seconds"] = round(build, 1)
            size = _index(database, LARGE, large, drop=name == "default")
            figures[name]["index_mib"] = round(size / 2**20, 1)
            if name == "seed":
                await store.optimize(SMALL, small)
                await store.activate(SMALL, small)
                figures["small_tenant"] = await _measured(store, SMALL, queries)
            await store.close()
    return figures


async def _measured(store: VectorStore, tenant: str, queries: Any) -> dict[str, Any]:
    await _search(store, tenant, queries[:20], exact=False)
    exact, slow = await _search(store, tenant, queries, exact=True)
    found, fast = await _search(store, tenant, queries, exact=False)
    return {
        "recall_at_10": round(_recall(found, exact), 4),
        **_quantiles(fast),
        "exact_p50_ms": _quantiles(slow)["p50_ms"],
    }


def _edge(folder: Path, hnsw: HnswParameters, vectors: Any, queries: Any) -> dict[str, Any]:
    import qdrant_edge as q

    say(f"Qdrant engine: building m={hnsw.m}")
    index = q.HnswIndexConfig(hnsw.m, hnsw.ef_construction, 100)
    params = q.EdgeVectorParams(vectors.shape[1], q.Distance.Cosine, hnsw_config=index)
    optimizers = q.EdgeOptimizersConfig(default_segment_number=1, indexing_threshold=1000)
    config = q.EdgeConfig(vectors={"dense": params}, optimizers=optimizers)
    shard = q.EdgeShard.create(str(folder), config)
    for first in range(0, len(vectors), 1000):
        points = [
            q.Point(first + n, {"dense": vector.tolist()}, {})
            for n, vector in enumerate(vectors[first : first + 1000])
        ]
        shard.update(q.UpdateOperation.upsert_points(points))
    start = time.perf_counter()
    shard.optimize()
    build = time.perf_counter() - start
    exact, _ = _edge_search(shard, queries, q.SearchParams(exact=True))
    found, seconds = _edge_search(shard, queries, q.SearchParams(hnsw_ef=hnsw.ef_search))
    shard.flush()
    graphs = [f for f in folder.rglob("*") if f.is_file() and "graph" in f.name]
    links = [f for f in folder.rglob("*") if f.is_file() and "links" in f.name]
    size = sum(f.stat().st_size for f in {*graphs, *links})
    shard.close()
    return {
        "recall_at_10": round(_recall(found, exact), 4),
        **_quantiles(seconds),
        "build_seconds": round(build, 1),
        "graph_mib": round(size / 2**20, 1),
        "graph_and_vectors_mib": round((size + vectors.nbytes) / 2**20, 1),
    }


def _edge_search(shard: Any, queries: Any, params: Any) -> Any:
    import qdrant_edge as q

    found, seconds = [], []
    for vector in queries:
        start = time.perf_counter()
        query = q.Query.Nearest(vector.tolist(), using="dense")
        points = shard.query(q.QueryRequest(limit=K, query=query, params=params))
        seconds.append(time.perf_counter() - start)
        found.append({point.id for point in points})
    return found, seconds


def _ratios(figures: dict[str, Any], size: str) -> dict[str, float]:
    seed, default = figures["seed"], figures["default"]
    return {
        "recall_seed_minus_default": round(seed["recall_at_10"] - default["recall_at_10"], 4),
        "size_seed_over_default": round(seed[size] / default[size], 3),
        "build_seed_over_default": round(seed["build_seconds"] / default["build_seconds"], 2),
    }


def run() -> dict[str, Any]:
    """Figures of both engines, and the seed's parameters over the defaults."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pgvector = asyncio.run(_pgvector(folder))
        _, _, vectors, queries = _embedded()
        edge = {
            key: _edge(folder / key, hnsw, vectors, queries)
            for key, hnsw in (("default", DEFAULT), ("seed", SEED))
        }
    pgvector["ratios"] = _ratios(pgvector, "index_mib")
    edge["ratios"] = _ratios(edge, "graph_and_vectors_mib")
    shape = {"vectors": SIZE, "dimension": vectors.shape[1], "queries": QUERIES}
    return {"data": shape, "pgvector": pgvector, "qdrant_engine": edge}


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
