"""relevance-score: the calibrated relevance is high, and it means what it says."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from conformance.corpora.model import LabelledQuery, sample
from conformance.corpora.prepare import TENANT, prepared
from conformance.gate import Context, Fault, Gate, Measurement, Observation, Phase, Plot, ProbeError
from conformance.gates.data._queries import flagged
from conformance.gates.intelligence import _answers
from conformance.probes.live import grown, window_gap
from conformance.stats import bootstrap_mean, exactly, expected_calibration_error
from conformance.targets import answer_faults as faults

LIVE_METRIC = "rag_retrieval_relevance_score_avg"
REQUESTS = "rag_retrieval_latency_seconds_count"  # the suite's and those of others
_BINS = 10


@dataclass(frozen=True, slots=True)
class Scored:
    """A query's relevance and whether the first result is a relevant document."""

    query: LabelledQuery
    relevance: float
    first: str

    @property
    def right(self) -> bool:
        """Whether the first result is a relevant document, by the rule of every gate."""
        return self.query.newly_found([self.first]) == [True]

    def row(self) -> dict[str, Any]:
        """The evidence line."""
        return {
            "query_id": self.query.id,
            "relevance": self.relevance,
            "first": self.first,
            "right": self.right,
        }


def measure(context: Context) -> Observation:
    """Mean relevance over held-out answerable queries, and its expected calibration error."""
    population = prepared(context).full.corpus.answerable
    size, seed = int(context.parameter("queries")), int(context.parameter("seed"))
    before = context.target.metrics("retrieval")
    scored = _ask(context, sample(population, size, seed, "relevance"))
    live = context.target.metrics("retrieval")
    context.evidence.write("relevance.jsonl", [s.row() for s in scored])
    scores, right = [s.relevance for s in scored], [s.right for s in scored]
    return Observation(
        {
            "mean": bootstrap_mean(scores),
            "ece": expected_calibration_error(scores, right, bins=_BINS),
            "first_right_share": bootstrap_mean([float(r) for r in right]),
            **_live(before, live, scores),
        },
        plots=[reliability(scores, right)],
    )


def _live(
    before: Mapping[str, float], after: Mapping[str, float], scores: Sequence[float]
) -> dict[str, Measurement]:
    """The exported mean, and how far it is from the scores that the callers got."""
    others = max(0, int(grown(before, after, REQUESTS)) - len(scores))
    gap = window_gap(before, after, LIVE_METRIC, scores, others)
    return {"live_mean": exactly(after[LIVE_METRIC], gap.n), "live_gap": gap}


def _ask(context: Context, queries: Sequence[LabelledQuery]) -> list[Scored]:
    clients, result = int(context.parameter("clients")), []
    with context.target.gateway(TENANT) as client, ThreadPoolExecutor(clients) as pool:
        for done, scored in enumerate(pool.map(lambda q: score(client, q), queries), 1):
            if scored is not None:
                result.append(scored)
            context.progress(done, len(queries), "queries")
    return result


def score(client: httpx.Client, query: LabelledQuery) -> Scored | None:
    """One query through the gateway, None when the guard flags it; raises `ProbeError`."""

    def send() -> tuple[httpx.Response, float]:
        return client.post("/v1/retrieve", json={"query": query.text}), 0.0

    try:
        response, _ = _answers.within_rate(send)
    except httpx.HTTPError as error:
        raise ProbeError(f"/v1/retrieve: {error!r}") from error
    if flagged(response):  # a false positive of the guard has no relevance: prompt-guard judges it
        return None
    if response.status_code != httpx.codes.OK:
        raise ProbeError(f"/v1/retrieve {response.status_code}: {response.text[:200]}")
    body = response.json()
    first = body["results"][0]["doc_id"] if body["results"] else ""
    return Scored(query, float(body["relevance"]), first)


def reliability(scores: Sequence[float], right: Sequence[bool]) -> Plot:
    """Observed share of right first results against stated relevance, by bins."""
    stated, happened = np.asarray(scores), np.asarray(right, dtype=float)
    which = np.minimum((stated * _BINS).astype(int), _BINS - 1)
    points = [
        (float(stated[which == b].mean()), float(happened[which == b].mean()))
        for b in range(_BINS)
        if (which == b).any()
    ]
    return Plot(
        "Reliability of the relevance score",
        "stated relevance",
        "share with a relevant first result",
        {"measured": points, "perfect": [(0.0, 0.0), (1.0, 1.0)]},
    )


@contextmanager
def _always_sure(context: Context) -> Iterator[None]:
    with faults.answers_changed(context.target, "retrieval", faults.always_sure):
        yield


GATE = Gate(
    id="relevance-score",
    phase=Phase.INTELLIGENCE,
    title="Retrieved chunks are relevant, and the score is calibrated",
    promise="rag_retrieval_relevance_score_avg > 0.75",
    measure=measure,
    faults=(Fault("the relevance is .99 for every query", _always_sure),),
)
