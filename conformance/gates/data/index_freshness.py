"""index-freshness: the platform's own schedule brings a change into the index, and the metric is true."""

import asyncio
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import isinf

import httpx

from conformance.gate import Context, Fault, Gate, Observation, Phase, ProbeError
from conformance.stats import exactly
from conformance.targets.base import Schedule
from rag_store.base import SyncState

METRIC = 'rag_index_staleness_hours{{tenant="{}"}}'
_NOT_YET = (httpx.codes.NOT_FOUND, httpx.codes.CONFLICT)  # before the tenant's first sync
_POLL_SECONDS = 1.0


def measure(context: Context) -> Observation:
    """The declared schedule, a change's way, and then the running service's metric and the store's record."""
    schedule = context.target.schedule()
    seconds, found = _canary(context, schedule)
    time.sleep(float(context.parameter("scrape_seconds")))
    reported = context.target.metrics("retrieval").get(METRIC.format(schedule.tenant))
    if reported is None:
        raise ProbeError(f"retrieval exports no {METRIC.format(schedule.tenant)}")
    recorded = asyncio.run(_recorded_hours(context))
    if min(reported, recorded) < 0:
        raise ProbeError(f"the last sync is said to end in the future: {reported} h, {recorded} h")
    context.evidence.write(
        "freshness.json",
        {"schedule": schedule, "metric_hours": reported, "store_hours": recorded, "canary": found},
    )
    return Observation(
        {
            "schedule_seconds": exactly(schedule.every_seconds, 1, "s"),
            "staleness_hours": exactly(max(reported, recorded), 1, "h"),
            "metric_error_hours": exactly(abs(reported - recorded), 1, "h"),
            "canary_found": exactly(float(found), 1),
            "canary_seconds": exactly(seconds, 1, "s"),
        }
    )


async def _recorded_hours(context: Context) -> float:
    state = (await _record(context, None)).finished_at
    return (datetime.now(UTC) - state).total_seconds() / 3600


def _canary(context: Context, schedule: Schedule) -> tuple[float, bool]:
    """Write a document and wait for the platform to find it: seconds, and whether it did."""
    word, patience = f"canary{secrets.token_hex(6)}", float(context.parameter("wait_seconds"))
    if isinf(schedule.every_seconds):
        patience = 0  # nobody will look for it
    text = f"# Canary\n\nThe password of the day is {word}.\n"
    start, trouble, found = time.monotonic(), "", False
    with (
        context.target.scheduled_document(f"{word}.md", text),
        context.target.retrieval(schedule.tenant) as client,
    ):
        while not found and time.monotonic() < start + patience:
            context.progress(int(time.monotonic() - start), int(patience), "s for the schedule")
            time.sleep(_POLL_SECONDS)
            found, trouble = _found(client, word)
    if trouble:
        raise ProbeError(trouble)
    return time.monotonic() - start, found


def _found(client: httpx.Client, word: str) -> tuple[bool, str]:
    """Whether retrieval finds the word, and why it could not look: other gates stop what it needs."""
    try:
        response = client.post("/v1/retrieve", json={"query": f"password {word}", "top_n": 1})
    except httpx.HTTPError as error:
        return False, f"/v1/retrieve: {type(error).__name__}: {error}"
    if response.status_code in _NOT_YET:
        return False, ""
    if response.status_code != httpx.codes.OK:
        return False, f"/v1/retrieve {response.status_code}: {response.text[:200]}"
    results = response.json()["results"]
    return bool(results) and word in results[0]["text"], ""


@contextmanager
def _not_running(context: Context) -> Iterator[None]:
    with context.target.processes.stopped("ingestion"):
        yield
    time.sleep(float(context.parameter("scrape_seconds")))


@contextmanager
def _last_sync_was_three_hours_ago(context: Context) -> Iterator[None]:
    """Stopped, so that the next sync does not mend the record; it does so by itself after this."""
    with context.target.processes.stopped("ingestion"):
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
    tenant, store = context.target.schedule().tenant, context.target.store("writer")
    try:
        before = await store.sync_state(tenant)
        if before is None:
            raise ProbeError(f"tenant {tenant} has no completed sync")
        if state:
            await store.record_sync(tenant, state)
        return before
    finally:
        await store.close()


GATE = Gate(
    id="index-freshness",
    phase=Phase.DATA,
    title="The index is never more than two hours behind its source",
    promise="rag_index_staleness_hours < 2",
    measure=measure,
    faults=(
        Fault("the scheduled ingestion does not run", _not_running),
        Fault("it last completed three hours earlier", _last_sync_was_three_hours_ago),
    ),
    beside=True,
)
