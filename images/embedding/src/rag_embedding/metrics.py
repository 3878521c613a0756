"""Prometheus metrics of the embedding server, present at zero traffic."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """The metrics that `docs/interfaces.md` names."""

    def __init__(self, queue_depth: Callable[[], float]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "embedding_requests", "Requests by HTTP status", ["status"], registry=self.registry
        )
        for status in ("200", "400", "422", "429", "500"):
            self.requests.labels(status)
        self.inputs = Counter("embedding_inputs", "Texts embedded", registry=self.registry)
        self.tokens = Counter("embedding_tokens", "Tokens embedded", registry=self.registry)
        self.compute = Counter(
            "embedding_compute_seconds", "Time in forward passes", registry=self.registry
        )
        self.batch = Histogram(
            "embedding_batch_inputs",
            "Texts in a forward pass",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
            registry=self.registry,
        )
        self.duration = Histogram(
            "embedding_request_duration_seconds",
            "Time to answer a request",
            buckets=SECONDS,
            registry=self.registry,
        )
        Gauge(
            "embedding_queue_depth", "Texts that wait for a forward pass", registry=self.registry
        ).set_function(queue_depth)

    def on_batch(self, inputs: int, tokens: int, seconds: float) -> None:
        """Count a forward pass."""
        self.inputs.inc(inputs)
        self.tokens.inc(tokens)
        self.compute.inc(seconds)
        self.batch.observe(inputs)


class RequestCounter:
    """ASGI middleware: counts POST requests by status and times them."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and look at its status."""
        if scope["type"] != "http" or scope["method"] != "POST":
            return await self.app(scope, receive, send)
        began, status = time.perf_counter(), 500

        async def note(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, note)
        finally:
            self.metrics.requests.labels(str(status)).inc()
            self.metrics.duration.observe(time.perf_counter() - began)
