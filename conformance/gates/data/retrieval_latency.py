"""retrieval-latency: P95 of /v1/retrieve through the gateway."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx

from conformance.corpora.model import LabelledQuery
from conformance.corpora.prepare import TENANT, prepared
from conformance.gate import Context, Fault, Gate, Measurement, Observation, Phase, Plot
from conformance.gates.data import _queries
from conformance.probes.live import latency_gap
from conformance.stats import exactly, percentile, share
from conformance.targets.proxy import slowed
from conformance.targets.reconfigured import reconfigured

LIVE_METRIC = "rag_retrieval_latency_seconds"
BESIDE = 200  # requests by which the exported histogram is judged


def measure(context: Context) -> Observation:
    """Wall seconds of queries that the cache has not seen, from a declared number of clients."""
    corpus, clients = prepared(context).full.corpus, int(context.parameter("clients"))
    queries = _queries.unseen(_queries.sample(context))
    with context.target.gateway(TENANT) as client, ThreadPoolExecutor(clients) as pool:
        asked = list(pool.map(lambda q: _retrieve(client, q), queries))
    answers = [answer for answer in asked if answer is not None]
    seconds = [answer.seconds for answer in answers]
    context.evidence.write("latency.jsonl", [a.row() | a.timings_ms for a in answers])
    steps = [(s, (i + 1) / len(seconds)) for i, s in enumerate(sorted(seconds))]
    return Observation(
        {
            "p95_seconds": percentile(seconds, 0.95),
            "p50_seconds": percentile(seconds, 0.5),
            "live_gap": _live_gap(context, queries[:BESIDE], clients),
            "served_share": share(len(answers), len(asked)),
            "corpus_documents": exactly(len(corpus.documents), 1),
        },
        notes=[f"{clients} clients, {len(corpus.documents)} documents"],
        plots=[
            Plot("Retrieval latency", "seconds", "share of requests", {"gateway": steps}, "step")
        ],
    )


def _live_gap(context: Context, queries: list[LabelledQuery], clients: int) -> Measurement:
    """How far the service's own P95 is from what a caller right beside it sees, with no gateway."""
    before = context.target.metrics("retrieval")
    asked = _queries.unseen(queries)
    answers = _queries.ask(context, asked, clients=clients, what="past the gateway", top_n=5)
    after = context.target.metrics("retrieval")
    return latency_gap(before, after, LIVE_METRIC, [answer.seconds for answer in answers])


def _retrieve(client: httpx.Client, query: LabelledQuery) -> _queries.Ranked | None:
    """The answer, or None when the guard flagged the query: that is not a latency."""
    try:
        return _queries.retrieve(client, query, {"top_n": 5})
    except _queries.FlaggedError:
        return None


@contextmanager
def _slow_embedder(context: Context) -> Iterator[None]:
    with (
        slowed(context.target, "embedding", seconds=0.6) as url,
        reconfigured(context.target, "retrieval", EMBEDDING_URL=url),
    ):
        yield


GATE = Gate(
    id="retrieval-latency",
    phase=Phase.DATA,
    title="Retrieval answers within half a second (P95)",
    promise='rag_retrieval_latency_seconds{quantile="0.95"} < 0.5',
    measure=measure,
    faults=(Fault("the embedding service answers 0.6 s late", _slow_embedder),),
)
