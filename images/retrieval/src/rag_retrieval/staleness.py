"""Keeps what the metrics tell of the store fresh, so that a scrape never waits for it."""

import asyncio
import logging

from rag_retrieval.hnsw_metric import read_hnsw
from rag_retrieval.metrics import Metrics
from rag_store.base import StoreError, VectorStore

log = logging.getLogger(__name__)


async def read_sync_times(store: VectorStore) -> dict[str, float | None]:
    """When each tenant's last sync finished (seconds since the epoch), None before the first."""
    times: dict[str, float | None] = {}
    for tenant in await store.tenants():
        state = await store.sync_state(tenant)
        times[tenant] = state.finished_at.timestamp() if state else None
    return times


async def poll_staleness(store: VectorStore, metrics: Metrics, seconds: float) -> None:
    """Read every `seconds`, for ever; while the store is down, what is known keeps ageing."""
    while True:
        try:
            async with asyncio.timeout(seconds):
                metrics.staleness.synced_at = await read_sync_times(store)
                metrics.hnsw.parameters = await read_hnsw(store)
        except (StoreError, TimeoutError, OSError) as error:
            metrics.poll_failures.inc()
            log.warning("the state of the indexes cannot be read", extra={"reason": str(error)})
        await asyncio.sleep(seconds)
