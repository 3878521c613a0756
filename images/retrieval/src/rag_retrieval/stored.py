"""Calls to the vector store with the request's deadline and the retry budget."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from rag_retrieval.deadline import Deadline
from rag_retrieval.errors import UpstreamUnavailableError
from rag_retrieval.retry import RetryBudget, call
from rag_store.base import StoreUnavailableError

T = TypeVar("T")


async def stored(
    operation: Callable[[], Awaitable[T]], budget: RetryBudget, deadline: Deadline
) -> T:
    """The operation's result; raises `UpstreamUnavailableError` when the store is down."""

    async def attempt() -> T:
        try:
            return await operation()
        except StoreUnavailableError as error:
            raise UpstreamUnavailableError("store", str(error)) from error

    async with deadline.bound("store"):
        return await call(attempt, budget=budget, deadline=deadline)
