"""The HNSW parameters that this process's own searches use, as gauges by tenant."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from rag_store.base import HnswParameters, NoActiveGenerationError, VectorStore

_GAUGES = {
    "m": "Links of a node in the live HNSW index.",
    "ef_construction": "Candidates considered while the live HNSW index was built.",
    "ef_search": "Candidates that a search of this process considers.",
}


class HnswCollector(Collector):
    """One sample a tenant with an index; the families alone before the store has been read."""

    def __init__(self) -> None:
        self.parameters: Mapping[str, HnswParameters] = {}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """`rag_vectordb_hnsw_m`, `…_ef_construction` and `…_ef_search`."""
        for name, text in _GAUGES.items():
            family = GaugeMetricFamily(f"rag_vectordb_hnsw_{name}", text, labels=["tenant"])
            for tenant, parameters in self.parameters.items():
                family.add_metric([tenant], getattr(parameters, name))
            yield family


async def read_hnsw(store: VectorStore) -> dict[str, HnswParameters]:
    """Each tenant's parameters, read over the connections that search; raises `StoreError`."""
    found: dict[str, HnswParameters] = {}
    for tenant in await store.tenants():
        try:
            generation = await store.active_generation(tenant)
        except NoActiveGenerationError:  # nothing is searched, so nothing is told
            continue
        found[tenant] = await store.hnsw(tenant, generation.id)
    return found
