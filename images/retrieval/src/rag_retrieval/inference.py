"""The bounded queue in front of the model; its depth is what scales the model from zero."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import Gauge

from rag_retrieval.deadline import Deadline
from rag_retrieval.errors import QueueFullError


class InferenceQueue:
    """At most `parallel` requests are with the model and `waiting` more in line."""

    def __init__(self, parallel: int, waiting: int, depth: Gauge) -> None:
        self._running = asyncio.Semaphore(parallel)
        self._most = parallel + waiting
        self._gauge = depth
        self._depth = 0

    @asynccontextmanager
    async def slot(self, deadline: Deadline) -> AsyncIterator[None]:
        """Hold a slot; raises `QueueFullError`, or `DeadlineExceededError` while in line."""
        if self._depth >= self._most:
            raise QueueFullError(f"{self._depth} requests already wait for the model")
        self._count(+1)
        try:
            async with deadline.bound("llm queue"):
                await self._running.acquire()
            try:
                yield
            finally:
                self._running.release()
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        self._depth += change
        self._gauge.set(self._depth)
