"""What the event consumer did, all present before the first event."""

from prometheus_client import CollectorRegistry, Counter, Histogram

OUTCOMES = ("ingested", "set-aside", "ignored", "dead-letter", "retried")


class Metrics:
    """Every metric in one registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.events = Counter(
            "ingest_events", "Events by what became of them.", ["outcome"], registry=self.registry
        )
        for outcome in OUTCOMES:
            self.events.labels(outcome)
        self.seconds = Histogram(
            "ingest_event_seconds",
            "From the receipt of an event until its documents are in the index.",
            buckets=(0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300),
            registry=self.registry,
        )
