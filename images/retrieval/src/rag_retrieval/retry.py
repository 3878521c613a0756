"""Retries that cannot become a storm: a budget shared by all requests."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from prometheus_client import Counter

from rag_retrieval.deadline import Deadline
from rag_retrieval.errors import UpstreamUnavailableError

T = TypeVar("T")


class RetryBudget:
    """Each first attempt earns a tenth of a retry, up to `most` saved ones."""

    def __init__(self, counter: Counter, *, ratio: float = 0.1, most: float = 10) -> None:
        self._counter, self._ratio, self._most = counter, ratio, most
        self._saved = most

    def earn(self) -> None:
        """Count a first attempt."""
        self._saved = min(self._most, self._saved + self._ratio)

    def spend(self, service: str) -> bool:
        """Whether one more retry is allowed; it counts as made."""
        if self._saved < 1:
            return False
        self._saved -= 1
        self._counter.labels(service).inc()
        return True


async def call(
    attempt: Callable[[], Awaitable[T]], *, budget: RetryBudget, deadline: Deadline, tries: int = 3
) -> T:
    """`attempt()`, again after a short jittered pause while its service is unavailable."""
    budget.earn()
    for number in range(1, tries + 1):
        try:
            return await attempt()
        except UpstreamUnavailableError as error:
            pause = 0.02 * 2**number * (0.5 + random.random())  # noqa: S311 - jitter
            out_of_time = deadline.remaining() <= pause
            if number == tries or out_of_time or not budget.spend(error.service):
                raise
            await asyncio.sleep(pause)
    raise AssertionError("unreachable")
