"""The real ingestion against the embedder's own ceiling, on fitz-gov documents.

One embedding server and one PostgreSQL run beside it. The ceiling is the best throughput of the
same chunks posted straight to the server at several numbers of requests in flight, before and after
the ingestion. `ratio` is chunks a second of the ingestion over it; the target is 0.85 with a core of
the embedder's own (`own_core`), as it has a node or GPU of its own on a cluster: that is what
batching and back-pressure can reach. In `shared` conversion, chunking and PostgreSQL take their
processor time from the embedder, as on a single machine.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks._progress import say
from rag_assets import fetch
from rag_ingestion.chunking import ChunkSettings
from rag_ingestion.embedder import Embedder
from rag_ingestion.prepare import prepare
from rag_ingestion.settings import Settings
from rag_ingestion.sync import ingest
from rag_store import open_admin
from rag_store.base import indexed_text
from rag_store.embedded import embedded_database

TENANT, DOCUMENTS, CEILING_CHUNKS = "benchmark", 1000, 400
IN_FLIGHT = (2, 4)
TARGET = 0.85


def _write_documents(folder: Path) -> None:
    """The first documents by id, each as Markdown; empty ones and repeated content are left out."""
    texts: dict[str, str] = {}
    for line in (fetch("fitz-gov") / "corpus/documents.jsonl").open(encoding="utf-8"):
        record = json.loads(line)
        if content := (record.get("content") or "").strip():
            texts[f"# {record.get('title') or record['id']}\n\n{content}\n"] = record["id"]
    chosen = sorted((name, text) for text, name in texts.items())[:DOCUMENTS]
    for number, (name, text) in enumerate(chosen):
        (folder / f"{number:05}-{name}.md").write_text(text, encoding="utf-8")


@contextmanager
def _cores(cores: set[int]) -> Iterator[None]:
    """What is started inside the block, and this process, run on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _embedding_server(cores: set[int]) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"BIND": f"127.0.0.1:{port}", "EMBEDDING_THREADS": str(len(cores))}
    command = [sys.executable, "-m", "rag_embedding"]
    with _cores(cores):  # a child keeps the cores it was started on
        started = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    with started as process:
        try:
            _wait(f"http://127.0.0.1:{port}/readyz", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError(f"the embedding server ended with {process.returncode}")
        try:
            if httpx.get(url).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise RuntimeError("the embedding server is not ready after two minutes")


async def _ceiling(embedder: Embedder, texts: list[str], batch: int) -> dict[int, float]:
    """Chunks a second by number of requests in flight."""
    card = await embedder.card()
    batches = [texts[i : i + batch] for i in range(0, len(texts), batch)]
    rates: dict[int, float] = {}
    for in_flight in IN_FLIGHT:
        waiting = iter(batches)

        async def post(waiting: Iterator[list[str]] = waiting) -> None:
            for texts in waiting:
                await embedder.embed(card, texts)

        start = time.perf_counter()
        await asyncio.gather(*(post() for _ in range(in_flight)))
        rates[in_flight] = len(texts) / (time.perf_counter() - start)
    return rates


async def _texts(embedder: Embedder, folder: Path, scratch: Path) -> list[str]:
    """What the ingestion embeds for the folder's documents."""
    card = await embedder.card()
    tokenizer = scratch / "tokenizer.json"
    tokenizer.write_bytes(await embedder.tokenizer(card.model))
    cut = ChunkSettings(str(tokenizer), 200, 0.1, card.max_tokens)
    texts = []
    for path in sorted(folder.iterdir()):  # noqa: ASYNC240 - nothing else runs
        made = prepare(path.name, path.read_bytes(), cut)
        texts += [indexed_text(made.title, chunk) for chunk in made.chunks]
    return texts


async def _measure(scratch: Path, url: str, database: Any) -> dict[str, Any]:
    folder = scratch / "documents"
    folder.mkdir()
    _write_documents(folder)
    admin = open_admin(database.url, database.credentials["rag_admin"])
    await admin.provision(TENANT)
    settings = Settings(
        embedding_url=url,
        vector_db_url=database.url,
        vector_db_credentials_file=database.credentials["rag_writer"],
    )
    async with Embedder(url, retry_seconds=60) as embedder:
        texts = await _texts(embedder, folder, scratch)
        sample = texts[:: max(1, len(texts) // CEILING_CHUNKS)]
        await embedder.embed(await embedder.card(), sample[:64])
        say("the embedder's ceiling")
        before = await _ceiling(embedder, sample, settings.embed_batch)
        say(f"ingesting {DOCUMENTS} documents")
        report = await ingest(str(folder), TENANT, settings)
        say("the ceiling again")
        after = await _ceiling(embedder, sample, settings.embed_batch)
    start = time.perf_counter()
    again = await ingest(str(folder), TENANT, settings)
    return _figures(report, before, after, again.unchanged, time.perf_counter() - start)


def _figures(
    report: Any, before: dict[int, float], after: dict[int, float], unchanged: int, seconds: float
) -> dict[str, Any]:
    best = max([*before.values(), *after.values()])
    chunks_per_second = report.chunks / report.seconds
    return {
        "documents": report.written,
        "chunks": report.chunks,
        "set_aside": len(report.set_aside),
        "documents_per_second": round(report.documents_per_second, 1),
        "chunks_per_second": round(chunks_per_second, 1),
        "ceiling_chunks_per_second": round(best, 1),
        "ceiling_by_in_flight": {
            "before": {str(n): round(rate, 1) for n, rate in before.items()},
            "after": {str(n): round(rate, 1) for n, rate in after.items()},
        },
        "ratio": round(chunks_per_second / best, 3),
        "ratio_to_mean_ceiling": round(
            chunks_per_second / ((max(before.values()) + max(after.values())) / 2), 3
        ),
        "target": TARGET,
        "unchanged_documents_per_second": round(unchanged / seconds, 1),
    }


def run() -> dict[str, Any]:
    """Measure both; a few minutes on two cores. Raises `RuntimeError` on a single core."""
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        raise RuntimeError("the embedder's own core needs a machine with two")
    own = {max(cores)}
    return {"own_core": _run(own, cores - own), "shared": _run(cores, cores)}


def _run(embedder: set[int], rest: set[int]) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory(prefix="rag-benchmark-") as folder,
        _cores(rest),
        embedded_database(Path(folder)) as database,
        _embedding_server(embedder) as url,
    ):
        return asyncio.run(_measure(Path(folder), url, database))


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
