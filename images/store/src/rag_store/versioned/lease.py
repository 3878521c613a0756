"""One writer at a time, by a lease: engines without transactions have no lock that they free.

A claim is a record that its holder renews. Each writes its own claim before it looks for others, so
of two at once at least one sees the other, and a claim nobody renews any more is void. The clocks of
the machines must agree much better than `LEASE_SECONDS`.
"""

import asyncio
import os
import socket
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from rag_store.base import IndexBusyError, Lease, StoreError, StoreUnavailableError
from rag_store.versioned.registry import Registry

LEASE_SECONDS = 60.0
RENEW_SECONDS = 15.0
_KIND = "claim-"


class Claim:
    """Implements `Lease`."""

    def __init__(self, registry: Registry, tenant: str) -> None:
        self._registry, self._tenant = registry, tenant
        self._key = _KIND + uuid.uuid4().hex
        self._until = 0.0

    async def take(self) -> None:
        """Claim the index; raises `IndexBusyError` when another claim is good."""
        await self._write()
        for key, body in (await self._registry.read(self._tenant)).items():
            if not key.startswith(_KIND) or key == self._key:
                continue
            if body["until"] > time.time():
                raise IndexBusyError(
                    f"tenant {self._tenant!r}: {body['holder']} writes its index; wait for it to "
                    f"end (its claim is void {LEASE_SECONDS:g} s after it died)"
                )
            await self._registry.remove(self._tenant, key)

    async def _write(self) -> None:
        start, holder = time.monotonic(), f"{socket.gethostname()}:{os.getpid()}"
        body = {"holder": holder, "until": time.time() + LEASE_SECONDS}
        await self._registry.put(self._tenant, self._key, body)
        self._until = start + LEASE_SECONDS

    async def renew(self) -> None:
        """Keep it good until cancelled, or for as long as it never was void."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            if time.monotonic() >= self._until:
                return
            with suppress(StoreError):  # the next attempt may succeed; `check` tells if none does
                await self._write()

    async def check(self) -> None:
        """Raise `StoreUnavailableError` when it could not be renewed in time."""
        if time.monotonic() >= self._until:
            raise StoreUnavailableError(
                f"tenant {self._tenant!r}: its index could not be kept for this writer, and another "
                "may write now: nothing more is written; run again"
            )

    async def release(self) -> None:
        """Give it up; where that fails it becomes void by itself."""
        with suppress(StoreError):
            await self._registry.remove(self._tenant, self._key)


@asynccontextmanager
async def exclusive(registry: Registry, tenant: str) -> AsyncIterator[Lease]:
    """Hold the tenant's index inside the block; raises `IndexBusyError` when another does."""
    claim = Claim(registry, tenant)
    renewal = asyncio.create_task(claim.renew())
    try:
        await claim.take()
        yield claim
    finally:
        renewal.cancel()
        await asyncio.gather(renewal, return_exceptions=True)
        await claim.release()
