"""hnsw-parameters: the live index and its searches use the seed's numbers."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from conformance.corpora.prepare import TENANT, prepared
from conformance.gate import Context, Fault, Gate, Observation, Phase
from conformance.gates.data._index import rebuilt_with
from conformance.stats import exactly
from rag_store.base import HnswParameters


def measure(context: Context) -> Observation:
    """What the store says of the active generation's index."""
    prepared(context)
    live = asyncio.run(_live(context))
    context.evidence.write("hnsw.json", {"tenant": TENANT, "live": live})
    return Observation(
        {
            "m": exactly(live.m, 1),
            "ef_construction": exactly(live.ef_construction, 1),
            "ef_search": exactly(live.ef_search, 1),
        }
    )


async def _live(context: Context) -> HnswParameters:
    store = context.target.store("reader")
    try:
        generation = await store.active_generation(TENANT)
        return await store.hnsw(TENANT, generation.id)
    finally:
        await store.close()


@contextmanager
def _default_index(context: Context) -> Iterator[None]:
    with rebuilt_with(context, HnswParameters(m=16, ef_construction=64)):
        yield


GATE = Gate(
    id="hnsw-parameters",
    phase=Phase.DATA,
    title="HNSW index built and searched with m=32, ef_construct=200, ef=128",
    promise="tune to m=32, ef_construct=200, ef=128 for high-recall workloads",
    measure=measure,
    faults=(Fault("the index is rebuilt with pgvector's defaults", _default_index),),
)
