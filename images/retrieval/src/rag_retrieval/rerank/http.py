"""A reranker behind the Cohere-shaped API: self-hosted or Cohere itself."""

import logging
import math
from collections.abc import Sequence
from typing import Any

from prometheus_client import Counter

from rag_retrieval.deadline import Deadline
from rag_retrieval.errors import (
    DeadlineExceededError,
    UpstreamError,
    UpstreamRejectedError,
)
from rag_retrieval.peers import Peer
from rag_retrieval.rerank.base import by_score, fused
from rag_retrieval.types import Passage, QueryVectors
from rag_store.base import Hit, indexed_text

log = logging.getLogger(__name__)


class HttpReranker:
    """Asks `POST /v1/rerank`; when it fails the fused order stands, unless `strict`."""

    def __init__(self, peer: Peer, model: str, fallbacks: Counter, *, strict: bool) -> None:
        self._peer, self._model = peer, model
        self._fallbacks, self._strict = fallbacks, strict

    async def rerank(
        self, query: str, vectors: QueryVectors, hits: Sequence[Hit], deadline: Deadline
    ) -> list[Passage]:
        """The hits by relevance score; raises `UpstreamError` only when strict."""
        if not hits:
            return []
        try:
            return by_score(hits, await self._scores(query, hits, deadline))
        except (UpstreamError, DeadlineExceededError) as error:
            if self._strict or not deadline.remaining():
                raise
            self._fallbacks.inc()
            log.warning("the reranker failed; the fused order stands", extra={"reason": str(error)})
            return fused(hits)

    async def close(self) -> None:
        """Close the connections."""
        await self._peer.close()

    async def _scores(
        self, query: str, hits: Sequence[Hit], deadline: Deadline
    ) -> list[float | None]:
        body = {
            "model": self._model,
            "query": query,
            "documents": [indexed_text(hit.document_title, hit.chunk) for hit in hits],
            "top_n": len(hits),
        }
        # Half of what is left, so that a hanging reranker leaves time to answer without it.
        limit = deadline if self._strict else Deadline.after(deadline.remaining() / 2)
        answer = await self._peer.post("/v1/rerank", body, deadline=limit)
        return self._read(answer, len(hits))

    def _read(self, answer: Any, count: int) -> list[float | None]:
        scores: list[float | None] = [None] * count
        try:
            for result in answer["results"]:
                scores[_index(result["index"], count)] = _finite(result["relevance_score"])
        except (KeyError, TypeError, ValueError) as error:
            raise UpstreamRejectedError(self._peer.service, f"not a ranking: {error}") from None
        if all(score is None for score in scores):
            raise UpstreamRejectedError(self._peer.service, "an empty ranking")
        return scores


def _index(value: Any, count: int) -> int:
    if not isinstance(value, int) or not 0 <= value < count:
        raise ValueError(f"index {value!r} of {count} documents")
    return value


def _finite(value: Any) -> float:
    score = float(value)
    if not math.isfinite(score):
        raise ValueError(f"score {value!r}")
    return score
