"""MaxSim of the query's token vectors over the chunks' stored ones."""

from collections.abc import Sequence

from rag_common.late_interaction import maxsim
from rag_retrieval.deadline import Deadline
from rag_retrieval.rerank.base import by_score, fused
from rag_retrieval.types import Passage, QueryVectors, TokenVectors
from rag_store.base import Hit


class LateReranker:
    """Late interaction, without another model call. Hits without token vectors: see `by_score`."""

    async def rerank(
        self, query: str, vectors: QueryVectors, hits: Sequence[Hit], deadline: Deadline
    ) -> list[Passage]:
        """The hits by MaxSim (fused order without); raises `LateFormatError` for damaged vectors."""
        late = vectors.late
        if late is None or not len(late):
            return fused(hits)
        ranked = by_score(hits, _scores(late, hits))
        return [Passage(p.hit, p.score, p.score) if p.hit.late else p for p in ranked]

    async def close(self) -> None:
        """Nothing to release."""


def _scores(late: TokenVectors, hits: Sequence[Hit]) -> list[float | None]:
    stored = [hit.late for hit in hits if hit.late]
    found = iter(maxsim(late, stored).tolist())
    return [next(found) if hit.late else None for hit in hits]
