"""Other sessions that scan a collection until a search has to wait for them.

Qdrant has no lock that holds readers up, and a delay in the mesh would not meet the suite's own
searches, which come in beside the sidecar. Neighbours who ask for too much are met by everybody.
"""

import asyncio
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import httpx

from conformance.corpora.prepare import TENANT
from conformance.gate import Context, ProbeError
from conformance.gates.data._store.qdrant import asking
from rag_store.versioned.records import DENSE

SLOW_SECONDS, QUICK_SECONDS, PATIENCE = 0.3, 0.1, 60.0
SEARCHES, MOST = 256, 64  # in a request, and sessions at a time
_TIMEOUT = 60.0


class Neighbours:
    """Sessions that scan, as many as are wanted at the moment."""

    def __init__(self, context: Context) -> None:
        self.at = f"/collections/{asking.passages(context, TENANT)}/points"
        self.wanted, self.over = 0, threading.Event()
        self._options: dict[str, Any] = {
            "base_url": asking.http_url(context),
            "headers": {"api-key": asking.key(context)},
            "timeout": _TIMEOUT,
            "trust_env": False,
        }
        self.points = self._points()

    def _points(self) -> list[str]:
        with httpx.Client(**self._options) as client:
            body = {"limit": SEARCHES, "with_payload": False}
            try:
                answer = client.post(f"{self.at}/scroll", json=body).raise_for_status()
            except httpx.HTTPError as error:
                raise ProbeError(f"qdrant: {error!r}") from error
        if not (found := [p["id"] for p in answer.json()["result"]["points"]]):
            raise ProbeError("qdrant: no passage to scan for")
        return (found * SEARCHES)[:SEARCHES]

    def _searches(self, points: list[str], *, exact: bool) -> dict[str, Any]:
        asked = {"using": DENSE, "limit": 20, "params": {"exact": exact}}
        return {"searches": [{"query": point, **asked} for point in points]}

    def search_seconds(self) -> float:
        """How long one search takes now: the median of three; one that fails takes all the time."""
        taken = []
        with httpx.Client(**self._options) as client:
            for _ in range(3):
                start = time.monotonic()
                try:
                    one = self._searches(self.points[:1], exact=False)
                    client.post(f"{self.at}/query/batch", json=one).raise_for_status()
                    taken.append(time.monotonic() - start)
                except httpx.HTTPError:
                    taken.append(_TIMEOUT)
        return statistics.median(taken)

    def run(self) -> None:
        """Scan until it is over."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        limits = httpx.Limits(max_connections=MOST)
        async with httpx.AsyncClient(**self._options, limits=limits) as client:
            sessions: list[asyncio.Task[None]] = []
            while not self.over.is_set():
                while len(sessions) < self.wanted:
                    sessions.append(asyncio.create_task(self._scan(client)))
                await asyncio.sleep(0.05)
            for session in sessions:
                session.cancel()
            await asyncio.gather(*sessions, return_exceptions=True)

    async def _scan(self, client: httpx.AsyncClient) -> None:
        body = self._searches(self.points, exact=True)
        while True:
            with suppress(httpx.HTTPError):  # whom the store refuses has loaded it all the same
                await client.post(f"{self.at}/query/batch", json=body)
            await asyncio.sleep(0)


@contextmanager
def slowed(context: Context) -> Iterator[None]:
    """Inside the block so many scan that a search takes `SLOW_SECONDS`; afterwards it is quick again."""
    neighbours = Neighbours(context)
    with ThreadPoolExecutor(1) as pool:
        scanning = pool.submit(neighbours.run)
        try:
            _until_slow(neighbours)
            yield
        finally:
            neighbours.over.set()
            scanning.result()
            _until_quick(neighbours)


def _until_slow(neighbours: Neighbours) -> None:
    neighbours.wanted = 2
    while (seconds := neighbours.search_seconds()) < SLOW_SECONDS:
        if neighbours.wanted >= MOST:
            raise ProbeError(
                f"qdrant: with {MOST} sessions that scan a search takes {seconds:.3f} s: not slow"
            )
        neighbours.wanted *= 2
        time.sleep(1)


def _until_quick(neighbours: Neighbours) -> None:
    """What was asked for is worked off first."""
    until = time.monotonic() + PATIENCE
    while neighbours.search_seconds() > QUICK_SECONDS and time.monotonic() < until:
        time.sleep(0.5)
