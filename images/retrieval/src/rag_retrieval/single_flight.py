"""Concurrent callers of the same work share one run of it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Runs the work of a key once at a time; a caller that gives up does not stop the others'."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Task[T]] = {}

    async def run(self, key: str, work: Callable[[], Awaitable[T]]) -> T:
        """The result of the `work` in flight for `key`, started if there is none."""
        task = self._running.get(key)
        if task is None:
            task = asyncio.create_task(self._work(work))
            self._running[key] = task
            task.add_done_callback(lambda done: self._finished(key, done))
        return await asyncio.shield(task)

    async def _work(self, work: Callable[[], Awaitable[T]]) -> T:
        return await work()

    def _finished(self, key: str, task: "asyncio.Task[T]") -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            task.exception()  # retrieved here too: every caller may have given up
