"""Qdrant as gates know it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from conformance.corpora.prepare import Prepared
from conformance.gate import Context, ProbeError
from conformance.gates.data._store import reading
from conformance.gates.data._store.attempt import Attempt
from conformance.gates.data._store.base import Contents
from conformance.gates.data._store.qdrant import asking, attempts, faults, load, restored
from rag_store.base import HnswParameters

GRAPHED = 0.5  # of the passages; those that came last wait in a segment without a graph

_DEFAULTS = HnswParameters(m=16, ef_construction=100, ef_search=100)


@dataclass(frozen=True, slots=True)
class Qdrant:
    """Implements `base.Kind`."""

    context: Context
    defaults: HnswParameters = _DEFAULTS

    def graph(self, tenant: str) -> HnswParameters:
        """The collection's numbers, of a graph that is there: small segments are scanned without one."""
        chunks = asking.passages(self.context, tenant)
        info = asking.ask(self.context, lambda client: asking.built(client, chunks))
        points = info.points_count or 0
        # Each passage's sparse vector is counted as indexed too, as soon as it is written.
        graphed = (info.indexed_vectors_count or 0) - points
        if graphed < points * GRAPHED or not points:
            raise ProbeError(
                f"qdrant: {chunks}: {max(graphed, 0)} of {points} passages are in a graph, the others "
                "are scanned: more documents, or a collection made anew with the store's thresholds"
            )
        return reading.numbers(self.context, tenant)

    def rebuilt_with(self, parameters: HnswParameters) -> AbstractContextManager[None]:
        """The corpus's graph built anew by the optimizers."""
        return faults.rebuilt_with(self.context, parameters)

    def mismatched(self) -> AbstractContextManager[None]:
        """Every passage with the token vectors of another one."""
        return faults.mismatched(self.context)

    def slowed(self) -> AbstractContextManager[None]:
        """Other sessions scan until a search takes 0.3 s."""
        return load.slowed(self.context)

    def losing(self, tenant: str, doc_id: str) -> AbstractContextManager[None]:
        """Another session deletes the document's passages as they come."""
        return faults.losing(self.context, tenant, doc_id)

    def forgetting(self, tenant: str) -> AbstractContextManager[None]:
        """Another session deletes documents that were acknowledged."""
        return faults.forgetting(self.context, tenant)

    def opened(self, small: str, large: str) -> AbstractContextManager[None]:
        """An alias of the small tenant's leads to the large one's passages."""
        return faults.opened(self.context, small, large)

    def attempts(self, both: Prepared) -> Iterator[Attempt]:
        """By tokens."""
        return attempts.through_qdrant(self.context, both)

    def contents(self, tenant: str) -> AbstractContextManager[Contents]:
        """The running store's."""
        return restored.live(self.context, tenant)

    def restored(self, tenant: str, seconds: float) -> AbstractContextManager[Contents]:
        """The newest backup's, asked in the restore Job's pod."""
        return restored.restored(self.context, tenant, seconds)

    def half_a_backup(self) -> AbstractContextManager[None]:
        """The dump leaves a shard of the passages out, and succeeds."""
        return restored.half_a_backup(self.context)
