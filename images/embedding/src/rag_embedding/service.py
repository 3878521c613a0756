"""What the endpoints do: tokenise, embed in batches, rerank; all of it off the event loop."""

import asyncio
from collections.abc import Sequence

import numpy as np
from fastapi import Response

from rag_common.problem import Problem
from rag_embedding import answer
from rag_embedding.backend import Backend, Encoded, InvalidTokensError, Vectors
from rag_embedding.batching import Batcher, QueueFullError
from rag_embedding.schema import EmbeddingRequest, RerankRequest

LATE = frozenset({"late"})


class Service:
    """The backend behind its batcher."""

    def __init__(self, backend: Backend, batcher: Batcher) -> None:
        self.backend, self.batcher = backend, batcher

    def check_model(self, model: str | None) -> None:
        """Raise `Problem` (404) when the caller means another model."""
        if model not in (None, self.backend.name):
            raise Problem(
                404, "Unknown model", f"{model!r} is not served; {self.backend.name!r} is"
            )

    async def embeddings(self, request: EmbeddingRequest) -> Response:
        """`POST /v1/embeddings`."""
        self.check_model(request.model)
        wanted = frozenset(request.outputs)
        if lacking := sorted(wanted - self.backend.outputs):
            has = ", ".join(sorted(self.backend.outputs))
            raise Problem(400, "Output not available", f"{', '.join(lacking)}: the model has {has}")
        encoded = await asyncio.to_thread(self._encode, request.inputs())
        vectors = await self._embed(encoded, wanted)
        return await asyncio.to_thread(answer.embeddings, self.backend, request, encoded, vectors)

    async def rerank(self, request: RerankRequest) -> Response:
        """`POST /v1/rerank`."""
        self.check_model(request.model)
        texts = request.texts
        scores = await self.batcher.run(lambda: self.backend.rerank(request.query, texts))
        if scores is None:
            scores = await self._maxsim(request.query, texts)
        return answer.ranking(self.backend, request, scores)

    async def _embed(self, encoded: Sequence[Encoded], outputs: frozenset[str]) -> list[Vectors]:
        try:
            return await self.batcher.embed(encoded, outputs)
        except QueueFullError as error:
            headers = {"Retry-After": str(error.retry_after)}
            raise Problem(429, "Too many requests", str(error), headers=headers) from error

    async def _maxsim(self, query: str, texts: list[str]) -> list[float]:
        if "late" not in self.backend.outputs:
            raise Problem(400, "Rerank not available", f"{self.backend.name} has no reranker")
        encoded = await asyncio.to_thread(self.backend.encode, [query, *texts])
        first, *documents = await self._embed(encoded, LATE)
        return [_mean_best(first, document) for document in documents]

    def _encode(self, inputs: list[str] | list[list[int]]) -> list[Encoded]:
        if texts := [item for item in inputs if isinstance(item, str)]:
            return self.backend.encode(texts)
        try:
            return [self.backend.wrap(item) for item in inputs if not isinstance(item, str)]
        except InvalidTokensError as error:
            raise Problem(400, "The input is not valid", f"input: {error}") from error


def _mean_best(query: Vectors, document: Vectors) -> float:
    """MaxSim of two texts, -1 when either has no tokens."""
    assert query.tokens is not None
    assert document.tokens is not None
    if not len(query.tokens) or not len(document.tokens):
        return -1.0
    return float(np.mean((query.tokens @ document.tokens.T).max(axis=1)))
