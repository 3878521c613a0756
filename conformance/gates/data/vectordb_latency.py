"""vectordb-latency: P95 of a hybrid search in the store itself."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from conformance.corpora.model import LabelledQuery
from conformance.corpora.prepare import TENANT
from conformance.gate import Context, Fault, Gate, Measurement, Observation, Phase
from conformance.gates.data import _queries, _store
from conformance.gates.data._vectors import embed
from conformance.probes.live import latency_gap
from conformance.stats import percentile
from rag_store.base import StoreError

LIVE_METRIC = "rag_vectordb_query_latency_seconds"
SERVED = 200  # searches that the running service repeats


def measure(context: Context) -> Observation:
    """Seconds of `search` at the store as retrieval's login, one query after the other."""
    queries = _queries.sample(context)
    seconds = asyncio.run(_search(context, queries))
    context.evidence.write("latency.json", seconds)
    return Observation(
        {
            "p95_seconds": percentile(seconds, 0.95),
            "p50_seconds": percentile(seconds, 0.5),
            "live_gap": _live_gap(context, queries[:SERVED], seconds[:SERVED]),
        }
    )


def _live_gap(context: Context, queries: list[LabelledQuery], seconds: list[float]) -> Measurement:
    """How far the service's own P95 of the same searches is from the one measured here."""
    before = context.target.metrics("retrieval")
    _queries.ask(context, queries, clients=1, what="the same, by the service")
    return latency_gap(before, context.target.metrics("retrieval"), LIVE_METRIC, seconds)


async def _search(context: Context, queries: list[LabelledQuery]) -> list[float]:
    vectors = embed(context, [query.text for query in queries])
    store, seconds = context.target.store("reader"), []
    try:
        await store.search(TENANT, queries[0].text, vectors[0])  # connects
        for done, (query, vector) in enumerate(zip(queries, vectors, strict=True), 1):
            start = time.perf_counter()
            try:
                await store.search(TENANT, query.text, vector, limit=20, with_late=True)
                seconds.append(time.perf_counter() - start)
            except StoreError:
                seconds.append(float("inf"))  # a search that fails is slower than any limit
            context.progress(done, len(queries), "store searches")
    finally:
        await store.close()
    return seconds


@contextmanager
def _slowed(context: Context) -> Iterator[None]:
    with _store.of(context).slowed():
        yield


GATE = Gate(
    id="vectordb-latency",
    phase=Phase.DATA,
    title="The vector store searches within 200 ms (P95)",
    promise='rag_vectordb_query_latency_seconds{quantile="0.95"} < 0.2',
    measure=measure,
    faults=(Fault("every search waits 0.3 s for other sessions", _slowed),),
)
