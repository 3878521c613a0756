"""hnsw-parameters: the live index and the searches of the running service use the seed's numbers."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from conformance.corpora.prepare import TENANT, prepared
from conformance.gate import Context, Fault, Gate, Observation, Phase, ProbeError
from conformance.gates.data._index import rebuilt_with
from conformance.stats import exactly
from conformance.targets.reconfigured import reconfigured
from rag_store.base import HnswParameters

METRIC = f'rag_vectordb_hnsw_ef_search{{tenant="{TENANT}"}}'
SETTLE_SECONDS = 40.0  # retrieval reads the store at its start, then every 15 s


def measure(context: Context) -> Observation:
    """What the store says of the active generation's index, and retrieval of its own searches."""
    prepared(context)
    live, searched = asyncio.run(_live(context)), _searched(context)
    context.evidence.write("hnsw.json", {"tenant": TENANT, "index": live, METRIC: searched})
    return Observation(
        {
            "m": exactly(live.m, 1),
            "ef_construction": exactly(live.ef_construction, 1),
            "ef_search": exactly(searched, 1),
        }
    )


async def _live(context: Context) -> HnswParameters:
    """The index as it lies in the store; its ef_search is this connection's, so not looked at."""
    store = context.target.store("reader")
    try:
        generation = await store.active_generation(TENANT)
        return await store.hnsw(TENANT, generation.id)
    finally:
        await store.close()


def _searched(context: Context) -> float:
    """The ef_search of the running service's searches; raises `ProbeError` when it tells none."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while (told := context.target.metrics("retrieval").get(METRIC)) is None:
        if time.monotonic() > deadline:
            raise ProbeError(f"retrieval exports no {METRIC} after {SETTLE_SECONDS:g} s")
        time.sleep(0.5)
    return told


@contextmanager
def _default_index(context: Context) -> Iterator[None]:
    with rebuilt_with(context, HnswParameters(m=16, ef_construction=64)):
        yield


@contextmanager
def _default_search(context: Context) -> Iterator[None]:
    with reconfigured(context.target, "retrieval", HNSW_EF_SEARCH="40"):
        yield


GATE = Gate(
    id="hnsw-parameters",
    phase=Phase.DATA,
    title="HNSW index built and searched with m=32, ef_construct=200, ef=128",
    promise="tune to m=32, ef_construct=200, ef=128 for high-recall workloads",
    measure=measure,
    faults=(
        Fault("the index is rebuilt with pgvector's defaults", _default_index),
        Fault("retrieval searches with pgvector's default ef_search", _default_search),
    ),
)
