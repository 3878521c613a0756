"""index-freshness: what changed at the source is soon in the index, and the metric tells the truth."""

import asyncio
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from conformance.corpora.prepare import TENANT, prepared, provision
from conformance.gate import Context, Fault, Gate, Observation, Phase, ProbeError
from conformance.stats import exactly
from rag_store.base import SyncState

SCRATCH = "conformance-scratch"
METRIC = f'rag_index_staleness_hours{{tenant="{TENANT}"}}'


def measure(context: Context) -> Observation:
    """The metric of a tenant at rest, the store's own record, and a canary's way into answers."""
    prepared(context)
    reported = context.target.metrics("retrieval").get(METRIC)
    if reported is None:
        raise ProbeError(f"retrieval exports no {METRIC}")
    recorded = asyncio.run(_recorded_hours(context))
    if min(reported, recorded) < 0:
        raise ProbeError(f"the last sync is said to end in the future: {reported} h, {recorded} h")
    seconds, found = _canary(context)
    context.evidence.write(
        "freshness.json", {"metric_hours": reported, "store_hours": recorded, "canary": found}
    )
    return Observation(
        {
            "staleness_hours": exactly(max(reported, recorded), 1, "h"),
            "metric_error_hours": exactly(abs(reported - recorded), 1, "h"),
            "canary_found": exactly(float(found), 1),
            "canary_seconds": exactly(seconds, 1, "s"),
        }
    )


async def _recorded_hours(context: Context) -> float:
    store = context.target.store("reader")
    try:
        state = await store.sync_state(TENANT)
    finally:
        await store.close()
    if state is None:
        raise ProbeError(f"tenant {TENANT} has no completed sync")
    return (datetime.now(UTC) - state.finished_at).total_seconds() / 3600


def _canary(context: Context) -> tuple[float, bool]:
    """Write a document, sync, and look for it: seconds from the write, and whether it was found."""
    asyncio.run(provision(context.target, SCRATCH))
    word = f"canary{secrets.token_hex(6)}"
    with tempfile.TemporaryDirectory(prefix="canary-") as name:
        document = Path(name) / f"{word}.md"
        start = time.perf_counter()
        document.write_text(f"# Canary\n\nThe password of the day is {word}.\n")
        context.target.ingest(Path(name), SCRATCH)
        with context.target.retrieval(SCRATCH) as client:
            response = client.post("/v1/retrieve", json={"query": f"password {word}", "top_n": 1})
        seconds = time.perf_counter() - start
    if response.status_code != httpx.codes.OK:
        raise ProbeError(f"/v1/retrieve {response.status_code}: {response.text[:200]}")
    results = response.json()["results"]
    return seconds, bool(results) and word in results[0]["text"]


@contextmanager
def _last_sync_was_three_hours_ago(context: Context) -> Iterator[None]:
    prepared(context)
    state = asyncio.run(_record(context, None))
    old = replace(state, finished_at=state.finished_at - timedelta(hours=3))
    try:
        asyncio.run(_record(context, old))
        time.sleep(float(context.parameter("scrape_seconds")))
        yield
    finally:
        asyncio.run(_record(context, state))
        time.sleep(float(context.parameter("scrape_seconds")))


async def _record(context: Context, state: SyncState | None) -> SyncState:
    """Record `state` if there is one; the state that was there before."""
    store = context.target.store("writer")
    try:
        before = await store.sync_state(TENANT)
        if before is None:
            raise ProbeError(f"tenant {TENANT} has no completed sync")
        if state:
            await store.record_sync(TENANT, state)
        return before
    finally:
        await store.close()


GATE = Gate(
    id="index-freshness",
    phase=Phase.DATA,
    title="The index is never more than two hours behind its source",
    promise="rag_index_staleness_hours < 2",
    measure=measure,
    faults=(Fault("ingestion last completed three hours earlier", _last_sync_was_three_hours_ago),),
)
