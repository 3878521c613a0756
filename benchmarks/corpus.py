"""The store as the corpus grows: recall and P95 of store and search at 10k, 100k, 1M vectors.

Vectors are real where there are texts: MiniLM (int8) over passages of fitz-gov, as `store` has
them. The rest is derived from real ones (a real vector, moved by noise and brought back to unit
length) and labelled so in the index and in the figures. `BENCHMARK_CORPUS_SIZES=10000,100000`
chooses the sizes; by default the smallest alone. Each has an index of its own, filled before the
graph is built: into a graph that exists, rows go thirty times slower. Memory stays bounded: a batch
of vectors exists at a time, and PostgreSQL builds with `BENCHMARK_CORPUS_BUILD_MEMORY`.
"""

import asyncio
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from benchmarks import store as passages_of
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
from rag_store.embedded import embedded_database
from rag_store.factory import open_admin, open_store

SIZES = [int(n) for n in os.environ.get("BENCHMARK_CORPUS_SIZES", "10000").split(",")]
TENANT, A_DOCUMENT, NOISE, K, QUERIES = "corpus", 500, 0.35, 10, 200
SEED = HnswParameters(m=32, ef_construction=200, ef_search=128)
REAL, DERIVED = "real", "derived"
BUILD_MEMORY = os.environ.get("BENCHMARK_CORPUS_BUILD_MEMORY", "1GB")
TELL_SECONDS = 10.0
PROGRESS = "SELECT phase, blocks_done, blocks_total FROM pg_stat_progress_create_index"
PLOT = Path(__file__).with_name("corpus.svg")


def _rows(real: Any, texts: list[str], first: int, last: int) -> Iterator[tuple[str, Any, str]]:
    """Kind, vector and text of the rows from `first` up to `last`, the same in every run."""
    for number in range(first, last):
        origin = number % len(real)
        if number < len(real):
            yield REAL, real[number], texts[number]
            continue
        noise = np.random.default_rng(number).normal(size=real.shape[1]).astype(np.float32)
        moved = real[origin] + NOISE * noise / np.linalg.norm(noise)
        yield DERIVED, moved / np.linalg.norm(moved), f"{texts[origin]} ({number})"


async def _load(
    store: VectorStore, generation: str, real: Any, texts: list[str], size: int
) -> float:
    """Store rows, a few hundred to a document; chunks a second."""
    started = time.perf_counter()
    for start in bar(range(0, size, A_DOCUMENT), f"storing {size:,}"):
        rows = list(_rows(real, texts, start, min(size, start + A_DOCUMENT)))
        key = f"d{start}"
        chunks = [
            EmbeddedChunk(Chunk(f"{key}#{n}", key, n, text, (), 0, len(text), 0), vector)
            for n, (_, vector, text) in enumerate(rows)
        ]
        kinds = {"derived": sum(kind == DERIVED for kind, _, _ in rows)}
        document = Document(key, key, "", key, datetime.now(UTC), kinds)
        await store.upsert(TENANT, generation, document, chunks)
    return size / (time.perf_counter() - started)


async def _built(store: VectorStore, generation: str, size: int, superuser: str) -> float:
    """Build the index, telling how far it is; seconds."""
    started = time.perf_counter()
    building = asyncio.ensure_future(store.optimize(TENANT, generation))
    say(f"building the index over {size:,}")
    while not (await asyncio.wait({building}, timeout=TELL_SECONDS))[0]:
        with psycopg.connect(superuser) as connection:
            row = connection.execute(PROGRESS).fetchone()
        told = f"{row[0]}: {row[1]:,} of {row[2]:,} blocks" if row else "statistics"
        say(f"  {time.perf_counter() - started:.0f} s, {told}")
    await building
    return time.perf_counter() - started


async def _search(
    store: VectorStore, queries: list[str], vectors: Any, mode: SearchMode, *, exact: bool = False
) -> tuple[list[set[str]], list[float]]:
    found, seconds = [], []
    for text, vector in zip(queries, vectors, strict=True):
        started = time.perf_counter()
        hits = await store.search(TENANT, text, vector, mode=mode, limit=K, exact=exact)
        seconds.append(time.perf_counter() - started)
        found.append({hit.chunk.chunk_id for hit in hits})
    return found, seconds


async def _measured(reader: VectorStore, queries: list[str], vectors: Any) -> dict[str, float]:
    """Recall against an exact scan, and P95 of the dense leg and of the whole hybrid search."""
    await _search(reader, queries[:20], vectors[:20], SearchMode.DENSE)
    exact, _ = await _search(reader, queries[:100], vectors[:100], SearchMode.DENSE, exact=True)
    found, dense = await _search(reader, queries, vectors, SearchMode.DENSE)
    _, hybrid = await _search(reader, queries, vectors, SearchMode.HYBRID)
    pairs = zip(found[: len(exact)], exact, strict=True)
    return {
        "recall_at_10": round(statistics.fmean(len(a & b) / len(b) for a, b in pairs), 4),
        "store_p95_ms": _p95(dense),
        "retrieval_p95_ms": _p95(hybrid),
    }


def _p95(seconds: list[float]) -> float:
    return round(float(np.percentile(np.array(seconds) * 1000, 95)), 2)


async def _curve(folder: Path) -> dict[str, Any]:
    texts, queries, real, vectors = passages_of._embedded()
    queries, vectors = queries[:QUERIES], vectors[:QUERIES]
    settings = {"fsync": "off", "maintenance_work_mem": BUILD_MEMORY, "max_wal_size": "4GB"}
    figures: dict[str, Any] = {}
    with embedded_database(folder, settings=settings) as database:
        admin = open_admin(database.url, database.credentials["rag_admin"])
        await admin.provision(TENANT)
        await admin.close()
        writer = open_store(database.url, database.credentials["rag_writer"], hnsw=SEED)
        reader = open_store(database.url, database.credentials["rag_reader"], hnsw=SEED)
        previous = ""
        for size in sorted(SIZES):
            model = EmbeddingModel("all-minilm-l6-v2", f"corpus-{size}", real.shape[1])
            generation = (await writer.ensure_generation(TENANT, model)).id
            rate = await _load(writer, generation, real, texts, size)
            build = await _built(writer, generation, size, database.superuser_dsn)
            await writer.activate(TENANT, generation)
            if previous:
                await writer.drop_generation(TENANT, previous)
            previous = generation
            figures[str(size)] = {
                "real": min(size, len(real)),
                "derived": max(0, size - len(real)),
                "chunks_per_second": round(rate, 1),
                "build_seconds": round(build, 1),
                "client_peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
                **await _measured(reader, queries, vectors),
            }
            say(json.dumps({size: figures[str(size)]}))
        await reader.close()
        await writer.close()
    return figures


def _plot(figures: dict[str, Any]) -> None:
    """Recall and latencies over the number of vectors."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    sizes = sorted(int(n) for n in figures)
    picture, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(6, 5))
    above.plot(sizes, [figures[str(n)]["recall_at_10"] for n in sizes], marker="o")
    above.axhline(0.985, linestyle="--", color="grey")
    above.set_ylabel("recall@10")
    for name in ("store_p95_ms", "retrieval_p95_ms"):
        below.plot(sizes, [figures[str(n)][name] for n in sizes], marker="o", label=name)
    below.set(xscale="log", xlabel="vectors", ylabel="P95 in ms")
    below.legend()
    picture.tight_layout()
    picture.savefig(PLOT, metadata={"Date": None})


def run() -> dict[str, Any]:
    """Figures by number of vectors; the curve is drawn beside the results."""
    with tempfile.TemporaryDirectory() as name:
        figures = asyncio.run(_curve(Path(name)))
    _plot(figures)
    return figures


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
