"""The bounded queue in front of the model; its depth is what scales the model from zero."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import Gauge

from rag_retrieval.deadline import Deadline
from rag_retrieval.errors import QueueFullError
from rag_retrieval.start import ModelStart


class InferenceQueue:
    """At most `parallel` requests are with the model and `waiting` more in line."""

    def __init__(self, parallel: int, waiting: int, depth: Gauge, start: ModelStart) -> None:
        self._running = asyncio.Semaphore(parallel)
        self._most = parallel + waiting
        self._gauge, self._start = depth, start
        self._depth = 0

    @asynccontextmanager
    async def slot(self, deadline: Deadline) -> AsyncIterator[Deadline]:
        """Hold a slot; yields the deadline, later by the time that the model took to start.

        Who waits for the start is counted, so that the autoscaler sees it. Raises `QueueFullError`,
        `LLMUnavailableError` when the model did not start, or `DeadlineExceededError` while in line.
        """
        if self._depth >= self._most:
            raise QueueFullError(f"{self._depth} requests already wait for the model")
        self._count(+1)
        try:
            deadline = deadline.extended(await self._start.wait())
            async with deadline.bound("llm queue"):
                await self._running.acquire()
            try:
                yield deadline
            finally:
                self._running.release()
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        self._depth += change
        self._gauge.set(self._depth)
