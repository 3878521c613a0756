"""A query's vectors by the model of the tenant's index: from the cache, or from the embedder once."""

import time
from collections.abc import Awaitable, Callable

import numpy as np

from rag_common.embeddings import Embedded
from rag_common.late_interaction import LateFormatError, unpack
from rag_retrieval.cache import EmbeddingCache, cache_key
from rag_retrieval.deadline import Deadline
from rag_retrieval.errors import DeadlineExceededError, ModelMismatchError, UpstreamRejectedError
from rag_retrieval.metrics import Metrics
from rag_retrieval.single_flight import SingleFlight
from rag_retrieval.types import Embedder, QueryVectors
from rag_store.base import Generation


class QueryEmbedding:
    """Looks a query up, embeds it on a miss and keeps it."""

    def __init__(
        self, embedder: Embedder, cache: EmbeddingCache, metrics: Metrics, *, late: bool
    ) -> None:
        self._embedder, self._cache, self._metrics, self._late = embedder, cache, metrics, late
        self._flights: SingleFlight[tuple[QueryVectors, bool]] = SingleFlight()

    async def vectors(
        self, tenant: str, query: str, generation: Generation, deadline: Deadline
    ) -> tuple[QueryVectors, bool]:
        """The vectors and whether they came from the cache; raises `UpstreamError`."""
        key = cache_key(tenant, generation.model.digest, query)

        async def work() -> tuple[QueryVectors, bool]:
            return await self._look_up(key, query, generation, deadline)

        async with deadline.bound("embedder"):
            vectors, hit = await self._shared(key, work)
        self._metrics.cache_hit.observe(float(hit))
        return vectors, hit

    async def _shared(
        self, key: str, work: Callable[[], Awaitable[tuple[QueryVectors, bool]]]
    ) -> tuple[QueryVectors, bool]:
        """The flight's result; one that ended by another caller's deadline is flown again."""
        own = False

        async def mine() -> tuple[QueryVectors, bool]:
            nonlocal own
            own = True
            return await work()

        while True:
            try:
                return await self._flights.run(key, mine)
            except DeadlineExceededError:
                if own:
                    raise

    async def _look_up(
        self, key: str, query: str, generation: Generation, deadline: Deadline
    ) -> tuple[QueryVectors, bool]:
        cached = await self._cache.get(key)
        if cached and (vectors := self._read(cached, generation)):
            return vectors, True
        value = await self._embed(query, generation, deadline)
        vectors = self._read(value, generation)
        if vectors is None:
            raise UpstreamRejectedError("embedder", "vectors of another shape than asked for")
        await self._cache.put(key, value)
        return vectors, False

    def _read(self, value: Embedded, generation: Generation) -> QueryVectors | None:
        """The vectors, or None when they are not what the index and the reranker need."""
        model = generation.model
        if value.dense.shape != (model.dimension,) or (self._late and value.late is None):
            return None
        try:
            late = unpack(value.late) if value.late else None
        except LateFormatError:
            return None
        if late is not None and not np.isfinite(late).all():
            return None
        return QueryVectors(value.dense, late, model.name, model.digest)

    async def _embed(self, query: str, generation: Generation, deadline: Deadline) -> Embedded:
        model = generation.model
        answer = await self._embedder.embed(
            [query],
            model=model.name,
            late=self._late,
            input_type="query",
            deadline=deadline,
            digest=model.digest,
        )
        if answer.model_digest != model.digest:
            detail = f"serves {answer.model_digest[:12]}, the index needs {model.digest[:12]}"
            raise ModelMismatchError("embedder", detail)
        return answer.items[0]


class Generations:
    """The active generation of each tenant, read from the store at most every two seconds."""

    def __init__(self, seconds: float = 2.0) -> None:
        self._seconds = seconds
        self._known: dict[str, tuple[float, Generation]] = {}

    def get(self, tenant: str) -> Generation | None:
        """The one read lately, or None."""
        at, generation = self._known.get(tenant, (0.0, None))
        return generation if time.monotonic() - at < self._seconds else None

    def put(self, tenant: str, generation: Generation) -> None:
        """Remember what the store said."""
        self._known[tenant] = (time.monotonic(), generation)

    def forget(self, tenant: str) -> None:
        """Read it again next time: the model has changed."""
        self._known.pop(tenant, None)
