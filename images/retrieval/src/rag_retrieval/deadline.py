"""A request's time budget, handed down to everything that waits."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from rag_retrieval.errors import DeadlineExceededError


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment of the monotonic clock by which the request must be done."""

    at: float
    budget: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """The deadline `seconds` from now."""
        return cls(time.monotonic() + seconds, seconds)

    def extended(self, seconds: float) -> "Deadline":
        """The deadline so much later: what was spent on a wait that does not count."""
        return Deadline(self.at + seconds, self.budget + seconds)

    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - time.monotonic())

    def check(self, stage: str) -> None:
        """Raise `DeadlineExceededError` when nothing is left."""
        if not self.remaining():
            raise DeadlineExceededError(stage, self.budget)

    @asynccontextmanager
    async def bound(self, stage: str) -> AsyncIterator[None]:
        """Cancel the block at the deadline and raise `DeadlineExceededError` naming `stage`."""
        self.check(stage)
        try:
            async with asyncio.timeout(self.remaining()) as scope:
                yield
        except TimeoutError:
            if not scope.expired():
                raise
            raise DeadlineExceededError(stage, self.budget) from None
