"""What the service adds to the store: `/v1/retrieve` against raw searches of the same run.

PostgreSQL holds fitz-gov's documents with their real vectors. The raw side is a process of its own
that calls `store.search` with the vectors already in hand; the others send the same questions to
`python -m rag_retrieval` over a Unix socket, as tenant, with the audit fsynced. `warm` finds the
vectors in Valkey, `cold` asks the real embedder for each, `fused` is warm without the rerank,
`http` is a request that does nothing. Each side is set against what it cannot do without.
"""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from benchmarks._fitz_index import MODEL, TENANT, Index, index
from benchmarks._load import Load, Side, compare, in_a_folder, overheads, quick_look
from benchmarks._processes import Client, services
from rag_common.late_interaction import pack, unpack
from rag_embedding.onnx_backend import OnnxBackend
from rag_retrieval.deadline import Deadline
from rag_retrieval.rerank import LateReranker
from rag_retrieval.types import QueryVectors

TOP_K, TARGET = 20, 0.25
OVER = (
    ("service_fused", "store"),
    ("service_warm", "store_and_rerank"),
    ("service_cold", "store_and_rerank"),
    ("service_warm", "store"),
    ("store_and_rerank", "store"),
)


class Raw:
    """`store.search` alone, with every vector in hand."""

    def __init__(self, built: Index, questions: Sequence[str]) -> None:
        backend, outputs = OnnxBackend(MODEL, "int8", 1), frozenset({"dense", "late"})
        self.store, self._digest = built.reader(), built.model.digest
        self._questions = questions
        self._vectors = [backend.embed(backend.encode([q]), outputs)[0] for q in questions]

    async def search(self, number: int) -> Any:
        """The hits the service would get."""
        return await self.store.search(
            TENANT,
            self._questions[number],
            self._vectors[number].dense,
            model_digest=self._digest,
            limit=TOP_K,
            with_late=True,
        )

    async def ask(self, number: int) -> None:
        """A search."""
        await self.search(number)

    async def ask_and_rerank(self, number: int) -> None:
        """A search and the same MaxSim rerank the service does."""
        hits, vectors = await self.search(number), self._vectors[number]
        late = unpack(pack(vectors.tokens, pool=False))
        query = QueryVectors(vectors.dense, late, MODEL, self._digest)
        await LateReranker().rerank("", query, hits, Deadline.after(60))


async def _same_results(raw: Raw, service: Client, questions: Sequence[str]) -> float:
    """The share of questions for which both sides found the same chunks in the same fused order."""
    same = 0
    for number, question in enumerate(questions):
        body = orjson.dumps({"query": question, "rerank": False, "top_n": TOP_K})
        answer = orjson.loads(await service.ask("/v1/retrieve", body))
        mine = [hit.chunk.chunk_id for hit in await raw.search(number)]
        same += mine == [result["chunk_id"] for result in answer["results"]]
    return same / len(questions)


async def _stages(service: Client, bodies: Sequence[bytes]) -> dict[str, float]:
    """Median ms of each stage; `others` are token, body, audit and relevance."""
    found = [orjson.loads(await service.ask("/v1/retrieve", body))["timings_ms"] for body in bodies]
    stages = {f"{k}_ms": round(statistics.median(f[k] for f in found), 2) for k in found[0]}
    others = [2 * f["total"] - sum(f.values()) for f in found]
    return stages | {"others_ms": round(statistics.median(others), 2)}


def _bodies(questions: Sequence[str], **options: Any) -> list[bytes]:
    return [orjson.dumps({"query": question, **options}) for question in questions]


async def _run(folder: Path, size: int | None, load: Load) -> dict[str, Any]:
    async with index(folder, size) as built, services(folder, built) as running:
        questions = built.corpus.questions[: load.questions]
        bodies, fused = _bodies(questions), _bodies(questions, rerank=False)
        raw, (warm, processes), (cold, _) = Raw(built, questions), running.warm, running.cold
        store = {"postgresql": built.postmaster}

        async def nothing(_: int) -> None:
            await warm.ask("/healthz")

        sides: Mapping[str, Side] = {
            "store": Side(raw.ask, store),
            "store_and_rerank": Side(raw.ask_and_rerank, store),
            "http": Side(nothing, processes),
            "service_fused": warm.side(fused, processes),
            "service_warm": warm.side(bodies, processes),
            "service_cold": cold.side(bodies, running.cold[1]),
        }
        measured = await compare(sides, load)
        figures = {
            "documents": len(built.corpus.documents),
            "questions": load.questions,
            "same_results": await _same_results(raw, warm, questions[:50]),
            "overhead": overheads(measured, OVER) | {"target": TARGET},
            "stages_warm": await _stages(warm, bodies[:100]),
            **measured,
        }
        await raw.store.close()
        return figures


def run(size: int | None = None, load: Load | None = None) -> dict[str, Any]:
    """Latency and throughput of each side, and the overheads, over `size` or all documents."""
    return in_a_folder(_run, size, load)


if __name__ == "__main__":
    quick_look(run)
