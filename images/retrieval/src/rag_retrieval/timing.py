"""How long each stage took: a span for the trace, milliseconds for the answer and the audit."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace

_tracer = trace.get_tracer("rag_retrieval")


class Timings:
    """Milliseconds by stage, and in total since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self.stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, **attributes: str | int | float | bool) -> Iterator[trace.Span]:
        """Time a stage in a span of the same name; attributes never carry texts."""
        start = time.perf_counter()
        with _tracer.start_as_current_span(f"rag.{name}", attributes=attributes) as span:
            try:
                yield span
            finally:
                self._add(name, start)

    @contextmanager
    def detached_stage(self, name: str) -> Iterator[None]:
        """As `stage`, for a generator that another task may close: its span is never current."""
        start, span = time.perf_counter(), _tracer.start_span(f"rag.{name}")
        try:
            yield
        finally:
            span.end()
            self._add(name, start)

    def _add(self, name: str, start: float) -> None:
        elapsed = (time.perf_counter() - start) * 1000
        self.stages[name] = round(self.stages.get(name, 0.0) + elapsed, 3)

    def seconds(self) -> float:
        """Seconds since it was made."""
        return time.perf_counter() - self._start

    def as_dict(self) -> dict[str, float]:
        """The stages so far and `total`."""
        return {**self.stages, "total": round(self.seconds() * 1000, 3)}
