"""Futures that a writer's thread settles, for requests that may have gone by then."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from rag_retrieval.errors import AuditError

log = logging.getLogger(__name__)


def waiting() -> "asyncio.Future[None]":
    """A future of the running loop that is silent when it fails and nobody waits any more."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.add_done_callback(retrieved)
    return future


def retrieved(future: "asyncio.Future[Any]") -> None:
    """Take note of a failure, which the loop would otherwise report as never retrieved."""
    if not future.cancelled():
        future.exception()


def settle(futures: Sequence["asyncio.Future[None]"], reason: str | None) -> None:
    """Settle futures of one loop from any thread: done, or failed with an `AuditError`."""
    try:
        futures[0].get_loop().call_soon_threadsafe(_resolve, futures, reason)
    except RuntimeError:  # that loop has ended; nobody waits any more
        log.debug("an audit record outlived its event loop")


def _resolve(futures: Sequence["asyncio.Future[None]"], reason: str | None) -> None:
    for future in futures:
        if future.done():
            continue
        if reason is None:
            future.set_result(None)
        else:
            future.set_exception(AuditError(reason))
