"""ann-recall: the HNSW index finds what an exact scan finds."""

from collections.abc import Iterator
from contextlib import contextmanager

from conformance.gate import Context, Fault, Gate, Observation, Phase, ProbeError
from conformance.gates.data import _queries, _store
from conformance.stats import bootstrap_mean
from rag_store.base import HnswParameters

DEPTH = _queries.DEPTH


def measure(context: Context) -> Observation:
    """Overlap of the first ten chunks of an HNSW search with those of an exact one."""
    queries = _queries.sample(context)
    found = _queries.ask(context, queries, what="HNSW", mode="dense", rerank=False)
    truth = _queries.ask(context, queries, what="exact", mode="dense", rerank=False, exact=True)
    if empty := [t.query.id for t in truth if not t.chunks]:
        raise ProbeError(f"an exact search found nothing for {', '.join(empty[:5])}")
    overlaps = [
        len(set(f.chunks[:DEPTH]) & set(t.chunks[:DEPTH])) / len(t.chunks[:DEPTH])
        for f, t in zip(found, truth, strict=True)
    ]
    context.evidence.write(
        "overlap.jsonl",
        [{"query_id": f.query.id, "overlap": o} for f, o in zip(found, overlaps, strict=True)],
    )
    return Observation({"recall_at_10": bootstrap_mean(overlaps)})


@contextmanager
def _sparse_graph(context: Context) -> Iterator[None]:
    with _store.of(context).rebuilt_with(HnswParameters(m=2, ef_construction=4)):
        yield


GATE = Gate(
    id="ann-recall",
    phase=Phase.DATA,
    title="HNSW finds what an exact scan finds",
    promise="improves recall from ~92% to ~98.5%",
    measure=measure,
    faults=(Fault("the graph is rebuilt with m=2, ef_construction=4", _sparse_graph),),
)
