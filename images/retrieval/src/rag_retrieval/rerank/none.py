"""No reranker: the fused order stands."""

from collections.abc import Sequence

from rag_retrieval.deadline import Deadline
from rag_retrieval.rerank.base import fused
from rag_retrieval.types import Passage, QueryVectors
from rag_store.base import Hit


class NoReranker:
    """Keeps the order and the scores of the search."""

    async def rerank(
        self, query: str, vectors: QueryVectors, hits: Sequence[Hit], deadline: Deadline
    ) -> list[Passage]:
        """The hits as they came."""
        return fused(hits)

    async def close(self) -> None:
        """Nothing to release."""
