"""Waiting for a model that is scaled to zero, at the expense of no request's deadline."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from prometheus_client import Histogram

from rag_retrieval.answer import LLMUnavailableError

log = logging.getLogger(__name__)
FRESH_SECONDS = 10.0  # an autoscaler takes no replica away that soon after an answer
PROBE_SECONDS = 0.5


class Model(Protocol):
    """What is waited for."""

    last_seen: float | None

    async def answers(self) -> bool:
        """Whether a server is there."""


class ModelStart:
    """Holds requests until the model's server answers, for at most `seconds` each; 0 holds none.

    One probe for all that wait. A model that has just answered is not asked.
    """

    def __init__(
        self,
        model: Model,
        seconds: float,
        took: Histogram,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._model, self._seconds, self._took, self._sleep = model, seconds, took, sleep
        self._probing: asyncio.Task[None] | None = None
        self._waiting = 0

    async def wait(self) -> float:
        """Seconds held; raises `LLMUnavailableError` when the model did not start in time."""
        if not self._seconds or self._fresh():
            return 0.0
        began = time.monotonic()
        self._waiting += 1
        if self._probing is None or self._probing.done():
            self._probing = asyncio.create_task(self._until_it_answers())
        try:
            async with asyncio.timeout(self._seconds):
                await asyncio.shield(self._probing)
        except TimeoutError:
            raise LLMUnavailableError(
                f"the model did not start within {self._seconds:g} s"
            ) from None
        finally:
            self._waiting -= 1
            if not self._waiting and self._probing:
                self._probing.cancel()
                self._probing = None
        return time.monotonic() - began

    def _fresh(self) -> bool:
        seen = self._model.last_seen
        return seen is not None and time.monotonic() - seen < FRESH_SECONDS

    async def _until_it_answers(self) -> None:
        began, there = time.monotonic(), await self._model.answers()
        if there:
            return
        while not there:
            await self._sleep(PROBE_SECONDS)
            there = await self._model.answers()
        seconds = time.monotonic() - began
        self._took.observe(seconds)
        log.info("the model has started", extra={"seconds": round(seconds, 3)})
