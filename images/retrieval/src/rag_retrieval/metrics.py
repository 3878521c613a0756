"""The metrics of the dashboard's first page, all present before the first request."""

import time
from collections import deque
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from rag_retrieval.hnsw_metric import HnswCollector

WINDOW_SECONDS = 300.0
MAX_SAMPLES = 10_000
# Dense around the promises: 0.2 s (store), 0.5 s (retrieval), 3 s (answer).
FAST = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.125, 0.15, 0.175, 0.2, 0.225, 0.25)
SLOW = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 7.5, 10)
VERY_SLOW = (15, 20, 30, 45, 60)


class Window:
    """The mean of what was observed in the last five minutes; 0 with no observation."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, float]] = deque(maxlen=MAX_SAMPLES)

    def observe(self, value: float) -> None:
        """Add an observation."""
        self._samples.append((self._clock(), value))

    def _expire(self) -> None:
        oldest = self._clock() - WINDOW_SECONDS
        while self._samples and self._samples[0][0] < oldest:
            self._samples.popleft()

    def mean(self) -> float:
        """The mean, 0.0 without observations: below every threshold, so no data never passes."""
        self._expire()
        return sum(v for _, v in self._samples) / len(self._samples) if self._samples else 0.0

    def count(self) -> float:
        """How many observations the mean rests on."""
        self._expire()
        return float(len(self._samples))


class StalenessCollector(Collector):
    """Hours since the index last equalled its source, by tenant, computed at scrape time.

    A tenant that never completed a sync has +Inf: missing data must not look fresh.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.synced_at: dict[str, float | None] = {}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One sample a tenant; the family alone before the store has been read."""
        family = GaugeMetricFamily(
            "rag_index_staleness_hours",
            "Hours since the tenant's index last equalled its source; +Inf before the first sync.",
            labels=["tenant"],
        )
        for tenant, at in self.synced_at.items():
            hours = float("inf") if at is None else max(0.0, self._clock() - at) / 3600
            family.add_metric([tenant], hours)
        yield family


class Metrics:
    """Every metric of the service in one registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.relevance, self.cache_hit, self.grounded = Window(), Window(), Window()
        self.staleness = StalenessCollector()
        self.registry.register(self.staleness)
        self.hnsw = HnswCollector()
        self.registry.register(self.hnsw)
        self._histograms()
        self._windows()
        self._counters()

    def _histograms(self) -> None:
        self.retrieval_latency = Histogram(
            "rag_retrieval_latency_seconds",
            "Embedding, search and rerank of one request.",
            buckets=FAST + SLOW,
            registry=self.registry,
        )
        self.store_latency = Histogram(
            "rag_vectordb_query_latency_seconds",
            "One search in the vector store.",
            buckets=FAST + SLOW,
            registry=self.registry,
        )
        self.answer_latency = Histogram(
            "rag_answer_latency_seconds",
            "A whole answer, from the request to its last byte.",
            buckets=(0.05, 0.1, 0.2, *SLOW, *VERY_SLOW),
            registry=self.registry,
        )
        self.llm_start = Histogram(
            "rag_llm_start_seconds",
            "How long requests were held until a model that was down answered.",
            buckets=(1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300),
            registry=self.registry,
        )

    def _window(self, name: str, help_text: str, window: Window) -> None:
        mean = Gauge(name, help_text, registry=self.registry)
        mean.set_function(window.mean)
        count = Gauge(
            f"{name}_observations", f"Observations behind {name}.", registry=self.registry
        )
        count.set_function(window.count)

    def _windows(self) -> None:
        self._window(
            "rag_retrieval_relevance_score_avg",
            "Mean calibrated relevance of first results over five minutes.",
            self.relevance,
        )
        self._window(
            "rag_embedding_cache_hit_ratio",
            "Share of query embeddings served by the cache over five minutes.",
            self.cache_hit,
        )
        self._window(
            "rag_grounded_response_ratio",
            "Share of generated responses whose every sentence cites a retrieved chunk.",
            self.grounded,
        )

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(name, help_text, labels, registry=self.registry)

    def _counters(self) -> None:
        self.queue_depth = Gauge(
            "rag_inference_queue_depth",
            "Requests that wait for the model or are being answered by it.",
            registry=self.registry,
        )
        self.requests = self._counter("rag_requests", "Requests by outcome.", "path", "status")
        self.cache = self._counter("rag_embedding_cache", "Cache look-ups by result.", "result")
        self.retries = self._counter("rag_retries", "Repeated calls by service.", "service")
        self.rerank_fallbacks = self._counter(
            "rag_rerank_fallbacks", "Requests left in fused order because the reranker failed."
        )
        self.guard_dropped = self._counter(
            "rag_guard_dropped_passages", "Retrieved passages that the guard kept out of a prompt."
        )
        self.sentences = self._counter("rag_sentences", "Sentences by verification.", "result")
        self.audit_records = self._counter("rag_audit_records", "Durable audit records.", "event")
        self.audit_failures = self._counter("rag_audit_failures", "Audit records that failed.")
        self.poll_failures = self._counter(
            "rag_staleness_poll_failures", "Failed reads of the tenants' sync state."
        )
        for result in ("hit", "miss", "error", "skipped"):
            self.cache.labels(result)
        for event in ("intent", "completion"):
            self.audit_records.labels(event)
