"""Everything that is opened at the start and closed at the end."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rag_common.files import read_secret
from rag_common.tenancy import TokenVerifier
from rag_retrieval.answer import Answerer, LLMClient, LLMSettings
from rag_retrieval.answering import Answering
from rag_retrieval.audit import Sink, open_sink
from rag_retrieval.cache import EmbeddingCache, open_cache
from rag_retrieval.deadline import Deadline
from rag_retrieval.embedding_client import EmbeddingClient, EmbeddingClients
from rag_retrieval.evidence import relevance
from rag_retrieval.guard import PassageGuard
from rag_retrieval.inference import InferenceQueue
from rag_retrieval.metrics import Metrics
from rag_retrieval.peers import Peer
from rag_retrieval.pipeline import Pipeline
from rag_retrieval.query_embedding import Generations, QueryEmbedding
from rag_retrieval.rerank import HttpReranker, LateReranker, NoReranker, Reranker
from rag_retrieval.retry import RetryBudget
from rag_retrieval.routes import Endpoints
from rag_retrieval.settings import RerankBackend, Settings
from rag_retrieval.start import ModelStart
from rag_store.base import VectorStore


@dataclass(frozen=True, slots=True)
class Parts:
    """Connections and files of the process."""

    settings: Settings
    metrics: Metrics
    budget: RetryBudget
    store: VectorStore
    cache: EmbeddingCache
    embedder: EmbeddingClients
    guard: PassageGuard
    reranker: Reranker
    llm: LLMClient
    sink: Sink

    async def close(self) -> None:
        """Close everything, the audit sink last; one failure does not keep the rest open."""
        async with AsyncExitStack() as stack:
            stack.callback(self.sink.close)
            for part in (
                self.store,
                self.cache,
                self.embedder,
                self.guard,
                self.reranker,
                self.llm,
            ):
                stack.push_async_callback(part.close)

    def endpoints(self) -> Endpoints:
        """The two endpoints over these parts."""
        settings = self.settings
        start = ModelStart(self.llm, settings.llm_cold_start_seconds, self.metrics.llm_start)
        answering = Answering(
            pipeline=self._pipeline(),
            guard=self.guard,
            answerer=Answerer(
                self.llm,
                self._embed,
                context_tokens=settings.context_tokens,
                answerable_from=settings.answerable_from,
            ),
            queue=InferenceQueue(
                settings.llm_parallel, settings.llm_max_queue, self.metrics.queue_depth, start
            ),
            sink=self.sink,
            metrics=self.metrics,
            top_n=settings.retrieval_top_n,
            deadline_seconds=settings.deadline_answer_seconds,
        )
        verifier = TokenVerifier(settings.tenant_token_public_key_file)
        return Endpoints(answering, verifier, settings.deadline_retrieve_seconds)

    def _pipeline(self) -> Pipeline:
        late = self.settings.rerank_backend is RerankBackend.LATE
        return Pipeline(
            store=self.store,
            embedding=QueryEmbedding(self.embedder, self.cache, self.metrics, late=late),
            reranker=self.reranker,
            relevance=relevance,
            metrics=self.metrics,
            budget=self.budget,
            top_k=self.settings.retrieval_top_k,
            with_late=late,
            generations=Generations(),
        )

    async def _embed(self, texts: Sequence[str], /) -> npt.NDArray[np.float32]:
        """What evidence and answer embed with; the caller's own deadline cuts it short."""
        deadline = Deadline.after(self.settings.deadline_answer_seconds)
        answer = await self.embedder.embed(texts, deadline=deadline)
        return np.stack([item.dense for item in answer.items])


def open_parts(settings: Settings, store: VectorStore) -> Parts:
    """Open everything but the store; raises `SettingsError`."""
    metrics = Metrics()
    budget = RetryBudget(metrics.retries)
    return Parts(
        settings=settings,
        metrics=metrics,
        budget=budget,
        store=store,
        cache=open_cache(
            settings.cache_url,
            settings.cache_credentials_file,
            settings.cache_timeout_seconds,
            metrics,
        ),
        embedder=EmbeddingClients(
            [
                EmbeddingClient(Peer("embedder", url.strip(), budget))
                for url in settings.embedding_url.split(",")
            ]
        ),
        guard=PassageGuard(Peer("guard", settings.guard_url, budget), metrics.guard_dropped),
        reranker=_reranker(settings, metrics, budget),
        llm=LLMClient(_llm(settings)),
        sink=open_sink(
            settings.audit_sink,
            segment_bytes=int(settings.audit_segment_mb * 2**20),
            segment_seconds=settings.audit_segment_seconds,
            timeout_seconds=settings.audit_timeout_seconds,
            credentials=settings.audit_credentials_file,
        ),
    )


def _llm(settings: Settings) -> LLMSettings:
    return LLMSettings(
        url=settings.llm_url,
        model=settings.llm_model,
        api_key_file=settings.llm_api_key_file,
        dialect=settings.llm_dialect,
        max_tokens=settings.llm_max_tokens,
    )


def _reranker(settings: Settings, metrics: Metrics, budget: RetryBudget) -> Reranker:
    if settings.rerank_backend is RerankBackend.NONE:
        return NoReranker()
    if settings.rerank_backend is RerankBackend.LATE:
        return LateReranker()
    key, url = settings.rerank_api_key_file, settings.rerank_url

    def headers() -> Mapping[str, str]:
        return {"authorization": f"Bearer {read_secret(key)}"} if key else {}

    assert url is not None, "the settings refuse http without a URL"
    peer = Peer("reranker", url, budget, headers=headers)
    return HttpReranker(
        peer, settings.rerank_model, metrics.rerank_fallbacks, strict=settings.rerank_strict
    )
