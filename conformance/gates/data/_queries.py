"""Labelled queries through /v1/retrieve: what came back, in which order, how fast."""

import secrets
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import httpx
import numpy as np

from conformance.corpora.model import LabelledQuery
from conformance.corpora.model import sample as draw
from conformance.corpora.prepare import TENANT, prepared
from conformance.gate import Context, ProbeError

DEPTH = 10


class FlaggedError(ProbeError):
    """The guard took the query for an injection: a false positive, judged by prompt-guard."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """One query's answer: documents without repetition, best first, and the wall time in seconds."""

    query: LabelledQuery
    documents: tuple[str, ...]
    chunks: tuple[str, ...]
    seconds: float
    timings_ms: dict[str, float]
    relevance: float

    @property
    def recall(self) -> float:
        """Share of the query's relevant documents found by the first `DEPTH`."""
        return sum(self.query.newly_found(self.documents[:DEPTH])) / len(self.query.relevant)

    @property
    def labelled_recall(self) -> float:
        """The same when only the labelled documents count, not those that say the same."""
        found = set(self.documents[:DEPTH]) & self.query.relevant_doc_ids
        return len(found) / len(self.query.relevant)

    @property
    def ndcg(self) -> float:
        """nDCG at `DEPTH` with binary relevance."""
        gains = self.query.newly_found(self.documents[:DEPTH])
        ideal = sum(_discount(i) for i in range(min(DEPTH, len(self.query.relevant))))
        return sum(g * _discount(i) for i, g in enumerate(gains)) / ideal

    def row(self) -> dict[str, Any]:
        """The evidence line."""
        return {
            "query_id": self.query.id,
            "relevant": sorted(self.query.relevant_doc_ids),
            "documents": self.documents[:DEPTH],
            "recall": self.recall,
            "labelled_recall": self.labelled_recall,
            "ndcg": self.ndcg,
            "seconds": round(self.seconds, 4),
        }


def _discount(rank: int) -> float:
    return float(1 / np.log2(rank + 2))


def flagged(response: httpx.Response) -> bool:
    """Whether the guard refused the request as an injection."""
    is_problem = "json" in response.headers.get("content-type", "")
    refused = response.status_code == httpx.codes.FORBIDDEN
    return refused and is_problem and "rule" in response.json()


def retrieve(client: httpx.Client, query: LabelledQuery, body: dict[str, Any]) -> Ranked:
    """One request; raises `FlaggedError`, or `ProbeError` with the service's reason."""
    start = time.perf_counter()
    response = client.post("/v1/retrieve", json={"query": query.text, "top_n": DEPTH * 2, **body})
    seconds = time.perf_counter() - start
    if flagged(response):
        raise FlaggedError(f"flagged: {query.text}")
    if response.status_code != httpx.codes.OK:
        raise ProbeError(f"/v1/retrieve {response.status_code}: {response.text[:200]}")
    answer = response.json()
    results = answer["results"]
    return Ranked(
        query,
        tuple(dict.fromkeys(r["doc_id"] for r in results)),
        tuple(r["chunk_id"] for r in results),
        seconds,
        answer["timings_ms"],
        answer["relevance"],
    )


def ask(
    context: Context,
    queries: Sequence[LabelledQuery],
    *,
    tenant: str = TENANT,
    clients: int = 2,
    what: str = "queries",
    **body: Any,
) -> list[Ranked]:
    """Every query as `tenant`, straight to retrieval, `clients` at a time, in the given order."""
    done = 0
    with context.target.retrieval(tenant) as client, ThreadPoolExecutor(clients) as pool:
        answers = []
        for answer in pool.map(lambda q: retrieve(client, q, body), queries):
            answers.append(answer)
            done += 1
            context.progress(done, len(queries), what)
    return answers


def sample(context: Context) -> list[LabelledQuery]:
    """The held-out answerable queries that the retrieval gates share (parameter `queries`)."""
    population = prepared(context).full.corpus.answerable
    size, seed = int(context.parameter("queries")), int(context.parameter("seed"))
    return draw(population, size, seed, "retrieval")


def unseen(queries: Sequence[LabelledQuery]) -> list[LabelledQuery]:
    """The same questions with a token that no cache has seen."""
    return [replace(query, text=unseen_text(query.text)) for query in queries]


def unseen_text(text: str) -> str:
    """The question with a token that no cache has seen."""
    return f"{text} (ref. {secrets.token_hex(4)})"


def hybrid(context: Context) -> list[Ranked]:
    """The sample through the whole pipeline: hybrid search, then rerank."""
    return ask(context, sample(context), what="hybrid + rerank")


def dense(context: Context) -> list[Ranked]:
    """The same sample through dense search alone."""
    return ask(context, sample(context), mode="dense", rerank=False, what="dense only")
