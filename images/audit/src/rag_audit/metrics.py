"""The indexer's metrics, all present before the first record."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from rag_audit.documents import EVENTS

_DELAYS = (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 21600)


class Metrics:
    """Every metric in one registry."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.indexed = Counter(
            "audit_indexed", "Records that the index acknowledged.", ["event"], registry=registry
        )
        for event in EVENTS:
            self.indexed.labels(event)
        self.duplicates = Counter(
            "audit_duplicates", "Records that were in the index already.", registry=registry
        )
        self.dead_lettered = Counter(
            "audit_dead_lettered", "Records put aside with a reason.", registry=registry
        )
        self.failures = Counter(
            "audit_bulk_failures", "Batches that must be written again.", registry=registry
        )
        self.lag = Gauge(
            "audit_lag_records", "Records of the log that are not in the index.", registry=registry
        )
        self.delay = Histogram(
            "audit_delay_seconds",
            "From a record's own time until it is in the index.",
            buckets=_DELAYS,
            registry=registry,
        )
