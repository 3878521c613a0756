"""One retrieval: embed, search dense and lexical, rerank, judge."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rag_common.late_interaction import LateFormatError
from rag_retrieval.deadline import Deadline
from rag_retrieval.errors import DeadlineExceededError, ModelMismatchError, UpstreamUnavailableError
from rag_retrieval.metrics import Metrics
from rag_retrieval.query_embedding import Generations, QueryEmbedding
from rag_retrieval.rerank import Reranker, fused
from rag_retrieval.retry import RetryBudget
from rag_retrieval.stored import stored
from rag_retrieval.timing import Timings
from rag_retrieval.types import Passage, QueryVectors, Retrieval
from rag_store import base as store_base
from rag_store.base import Generation, Hit, SearchMode, VectorStore

log = logging.getLogger(__name__)
MISMATCH_PAUSE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Ask:
    """What is to be retrieved for whom."""

    tenant: str
    query: str
    top_n: int
    mode: SearchMode = SearchMode.HYBRID
    rerank: bool = True
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Everything a retrieval needs."""

    store: VectorStore
    embedding: QueryEmbedding
    reranker: Reranker
    relevance: Callable[[Retrieval], float]
    metrics: Metrics
    budget: RetryBudget
    top_k: int
    with_late: bool
    generations: Generations

    async def retrieve(self, ask: Ask, deadline: Deadline, timings: Timings) -> Retrieval:
        """The ranked candidates; raises `RetrievalError` or the store's `StoreError`."""
        started = timings.seconds()
        try:
            result = await self._retrieve(ask, deadline, timings)
        except DeadlineExceededError:  # the slowest ones count, or the quantiles would flatter
            self.metrics.retrieval_latency.observe(timings.seconds() - started)
            raise
        self.metrics.retrieval_latency.observe(timings.seconds() - started)
        self.metrics.relevance.observe(result.relevance)
        return result

    async def _retrieve(self, ask: Ask, deadline: Deadline, timings: Timings) -> Retrieval:
        vectors, hit, hits = await self._current(ask, deadline, timings)
        with timings.stage("rerank", candidates=len(hits), enabled=ask.rerank):
            try:
                ranked = await self._ranked(ask, vectors, hits, deadline)
            except LateFormatError as error:  # damaged, or of a newer ingestion: do without them
                log.warning("stored token vectors are unreadable", extra={"reason": str(error)})
                bare = [replace(found, late=None) for found in hits]
                ranked = await self._ranked(ask, vectors, bare, deadline)
        return replace(ranked, cache_hit=hit, timings_ms=timings.stages)

    async def _ranked(
        self, ask: Ask, vectors: QueryVectors, hits: Sequence[Hit], deadline: Deadline
    ) -> Retrieval:
        passages = await self._rerank(ask, vectors, hits, deadline)
        return self.judged(Retrieval(ask.query, vectors, passages, ask.top_n, False, {}))

    def judged(self, retrieval: Retrieval) -> Retrieval:
        """The retrieval with the calibrated relevance of its first passage; 0.0 without one."""
        if not retrieval.candidates:
            return replace(retrieval, relevance=0.0)
        return replace(retrieval, relevance=self.relevance(retrieval))

    async def _current(
        self, ask: Ask, deadline: Deadline, timings: Timings
    ) -> tuple[QueryVectors, bool, list[Hit]]:
        """Embed and search with one model: again, until the deadline, while a swap is going on."""
        while True:
            try:
                return await self._embed_and_search(ask, deadline, timings)
            except (ModelMismatchError, store_base.ModelMismatchError) as error:
                self.generations.forget(ask.tenant)
                if deadline.remaining() <= 2 * MISMATCH_PAUSE_SECONDS:
                    raise UpstreamUnavailableError("embedder", str(error)) from error
            await asyncio.sleep(MISMATCH_PAUSE_SECONDS)

    async def _embed_and_search(
        self, ask: Ask, deadline: Deadline, timings: Timings
    ) -> tuple[QueryVectors, bool, list[Hit]]:
        with timings.stage("embed") as span:
            generation = await self._generation(ask.tenant, deadline)
            vectors, hit = await self.embedding.vectors(ask.tenant, ask.query, generation, deadline)
            span.set_attribute("cache_hit", hit)
        with timings.stage("search", mode=ask.mode.value, exact=ask.exact) as span:
            hits = await self._search(ask, vectors, deadline)
            span.set_attribute("hits", len(hits))
        return vectors, hit, hits

    async def _generation(self, tenant: str, deadline: Deadline) -> Generation:
        known = self.generations.get(tenant)
        if known is None:
            known = await stored(
                lambda: self.store.active_generation(tenant), self.budget, deadline
            )
            self.generations.put(tenant, known)
        return known

    async def _search(self, ask: Ask, vectors: QueryVectors, deadline: Deadline) -> list[Hit]:
        async def attempt() -> list[Hit]:
            return await self.store.search(
                ask.tenant,
                ask.query,
                vectors.dense,
                model_digest=vectors.model_digest,
                mode=ask.mode,
                limit=max(self.top_k, ask.top_n),
                exact=ask.exact,
                with_late=self.with_late,
            )

        with self.metrics.store_latency.time():
            return await stored(attempt, self.budget, deadline)

    async def _rerank(
        self, ask: Ask, vectors: QueryVectors, hits: Sequence[Hit], deadline: Deadline
    ) -> list[Passage]:
        if not ask.rerank:
            return fused(hits)
        return await self.reranker.rerank(ask.query, vectors, hits, deadline)
