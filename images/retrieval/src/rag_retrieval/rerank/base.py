"""What a reranker is."""

from collections.abc import Sequence
from typing import Protocol

from rag_retrieval.deadline import Deadline
from rag_retrieval.types import Passage, QueryVectors
from rag_store.base import Hit


class Reranker(Protocol):
    """Orders hits by their relevance to a query."""

    async def rerank(
        self, query: str, vectors: QueryVectors, hits: Sequence[Hit], deadline: Deadline
    ) -> list[Passage]:
        """All hits, best first."""

    async def close(self) -> None:
        """Release connections."""


def fused(hits: Sequence[Hit]) -> list[Passage]:
    """The hits in the order and with the scores of the search."""
    return [Passage(hit, hit.score) for hit in hits]


def by_score(hits: Sequence[Hit], scores: Sequence[float | None]) -> list[Passage]:
    """Best first; equal scores keep the fused order.

    A hit without a score takes that of the hit before it in fused order (the first one takes the
    best score), so it stays right behind its neighbour; with no score at all, the fused order.
    """
    known = [score for score in scores if score is not None]
    if not known:
        return fused(hits)
    previous, passages = max(known), []
    for hit, score in zip(hits, scores, strict=True):
        previous = previous if score is None else score
        passages.append(Passage(hit, previous))
    return sorted(passages, key=lambda passage: -passage.score)
