"""hnsw-parameters: the live index and the searches of the running service use the seed's numbers."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from conformance.corpora.prepare import TENANT, prepared
from conformance.gate import Context, Fault, Gate, Observation, Phase, ProbeError
from conformance.gates.data import _store
from conformance.stats import exactly
from conformance.targets.reconfigured import reconfigured

METRIC = f'rag_vectordb_hnsw_ef_search{{tenant="{TENANT}"}}'
SETTLE_SECONDS = 40.0  # retrieval reads the store at its start, then every 15 s


def measure(context: Context) -> Observation:
    """What the store says of the active generation's index, and retrieval of its own searches."""
    prepared(context)
    live, searched = _store.of(context).graph(TENANT), _searched(context)
    context.evidence.write("hnsw.json", {"tenant": TENANT, "index": live, METRIC: searched})
    return Observation(
        {
            "m": exactly(live.m, 1),
            "ef_construction": exactly(live.ef_construction, 1),
            "ef_search": exactly(searched, 1),
        }
    )


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
    store = _store.of(context)
    with store.rebuilt_with(store.defaults):
        yield


@contextmanager
def _default_search(context: Context) -> Iterator[None]:
    ef_search = str(_store.of(context).defaults.ef_search)
    with reconfigured(context.target, "retrieval", HNSW_EF_SEARCH=ef_search):
        yield


GATE = Gate(
    id="hnsw-parameters",
    phase=Phase.DATA,
    title="HNSW index built and searched with m=32, ef_construct=200, ef=128",
    promise="tune to m=32, ef_construct=200, ef=128 for high-recall workloads",
    measure=measure,
    faults=(
        Fault("the index is rebuilt with the store's own defaults", _default_index),
        Fault("retrieval searches with the store's own default ef_search", _default_search),
    ),
)
