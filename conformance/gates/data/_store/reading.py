"""A tenant's active generation, asked with the reader's login."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from conformance.gate import Context, ProbeError
from rag_store.base import Generation, HnswParameters, StoreError, VectorStore

Read = TypeVar("Read")


def read(
    context: Context, tenant: str, work: Callable[[VectorStore, Generation], Awaitable[Read]]
) -> Read:
    """What `work` makes of the store and the generation; raises `ProbeError`, also for none."""

    async def asked() -> Read:
        store = context.target.store("reader")
        try:
            return await work(store, await store.active_generation(tenant))
        finally:
            await store.close()

    try:
        return asyncio.run(asked())
    except StoreError as error:
        raise ProbeError(f"tenant {tenant}: {error}") from error


def generation(context: Context, tenant: str) -> str:
    """The generation's id; raises `ProbeError` for none."""

    async def named(_: VectorStore, own: Generation) -> str:
        return own.id

    return read(context, tenant, named)


def numbers(context: Context, tenant: str) -> HnswParameters:
    """What the live index was built with; its ef_search is this connection's."""
    return read(context, tenant, lambda store, own: store.hnsw(tenant, own.id))
