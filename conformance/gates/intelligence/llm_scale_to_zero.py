"""llm-scale-to-zero: nothing runs when nobody asks, and the first question is answered all the same."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import httpx

from conformance.corpora.prepare import TENANT, prepared
from conformance.gate import Context, Fault, Gate, Observation, Phase, Plot, ProbeError
from conformance.gates.intelligence import _office_hours
from conformance.gates.intelligence._answers import BEFORE_THE_MODEL, WAKING_TRIES
from conformance.gates.intelligence._office_hours import OfficeHours
from conformance.probes.cluster.scaling import Scaled, watched
from conformance.probes.waiting import settled
from conformance.stats import exactly

WHERE = ("rag-llm", "llm-predictor")


def measure(context: Context) -> Observation:
    """Replicas when idle, the first question's time, idle again, and a simulated week of the cron."""
    scaled = Scaled.of(context.target.cluster, *WHERE)
    declared = scaled.item
    hours = OfficeHours.of(context.parameter("office_hours"))
    inside, outside = _office_hours.kept_over_a_week(declared, hours)
    with _off_hours(scaled, declared), watched(scaled) as line:
        idle = _idle(context, scaled)
        first = _first_answer(context) if not idle else None
        again = _idle(context, scaled) if first else idle
    context.evidence.write("replicas.json", line.points)
    context.evidence.write("first.json", first or {})
    metrics = {
        "idle_replicas": exactly(max(idle, again), 2 if first else 1),
        "business_hours_replicas": exactly(min(inside), len(inside)),
        "off_hours_replicas": exactly(max(outside), len(outside)),
        "first_request_answered": exactly(bool(first and first["answered"]), 1),
    }
    if first and first["answered"]:
        metrics["cold_start"] = exactly(first["seconds"], 1, "s")
    return Observation(
        metrics,
        notes=[first["told"]] if first and not first["answered"] else [],
        plots=[Plot("The model from zero", "seconds", "replicas", {"ready": line.points}, "step")],
    )


def _scaled(context: Context) -> Scaled:
    return Scaled.of(context.target.cluster, *WHERE)


def _waking(scaled_object: dict[str, Any]) -> list[dict[str, Any]]:
    """The triggers of the model's ScaledObject that wake it for a question; raises `ProbeError`."""
    triggers = deepcopy(scaled_object["spec"]["triggers"])
    waking = [trigger for trigger in triggers if trigger["type"] != "cron"]
    if not waking:
        raise ProbeError("the model's ScaledObject has no trigger but cron")
    return waking


@contextmanager
def _off_hours(scaled: Scaled, declared: dict[str, Any]) -> Iterator[None]:
    """Where the cron window is open now, it is taken out: it would keep a replica."""
    if not any(w.wants(datetime.now(UTC)) for w in _office_hours.windows(declared)):
        yield
        return
    with scaled.held({"triggers": _waking(declared)}):
        yield


def _idle(context: Context, scaled: Scaled) -> int:
    """Replicas once there is none, or after the time in which there should be none."""
    return settled(scaled.replicas, float(context.parameter("idle_seconds")))


def _first_answer(context: Context) -> dict[str, Any]:
    """The first question that the model was asked: seconds, and whether the caller has an answer."""
    limit = float(context.parameter("answer_seconds"))
    questions = [query.text for query in prepared(context).full.corpus.gold[:WAKING_TRIES]]
    with context.target.gateway(TENANT, timeout=limit) as client:
        for question in questions:
            started = time.monotonic()
            told, body = _ask(client, question)
            if body.get("decline_reason") in BEFORE_THE_MODEL:
                continue
            seconds = time.monotonic() - started
            return {"question": question, "seconds": seconds, "answered": not told, "told": told}
    raise ProbeError(f"{len(questions)} questions were declined before the model was asked")


def _ask(client: httpx.Client, question: str) -> tuple[str, dict[str, Any]]:
    """What went wrong, and the answer."""
    try:
        response = client.post("/v1/answer", json={"question": question})
    except httpx.HTTPError as error:
        return f"{type(error).__name__}: {error}", {}
    if response.status_code != httpx.codes.OK:
        return f"{response.status_code}: {response.text[:200]}", {}
    body: dict[str, Any] = response.json()
    return "", body


@contextmanager
def _always_warm(context: Context) -> Iterator[None]:
    scaled = _scaled(context)
    with scaled.held({"minReplicaCount": 1, "triggers": _waking(scaled.item)}):
        yield


@contextmanager
def _no_wake_up(context: Context) -> Iterator[None]:
    """The queue's trigger asks for a depth that no queue reaches."""
    scaled = _scaled(context)
    deaf = _waking(scaled.item)
    for trigger in deaf:
        trigger["metadata"] |= {"activationThreshold": "1000000"}
    with scaled.held({"triggers": deaf}):
        yield


@contextmanager
def _night_shift(context: Context) -> Iterator[None]:
    """The cron windows open at night instead."""
    scaled = _scaled(context)
    triggers = deepcopy(scaled.item["spec"]["triggers"])
    for trigger in triggers:
        if trigger["type"] == "cron":
            trigger["metadata"] |= {"start": "0 1 * * *", "end": "0 2 * * *"}
    with scaled.held({"triggers": triggers}):
        yield


GATE = Gate(
    id="llm-scale-to-zero",
    phase=Phase.INTELLIGENCE,
    title="The model scales to zero, wakes up for the first question, and is warm in office hours",
    promise="minReplicaCount: 0; wake up on first request; 90-180 s cold start",
    measure=measure,
    faults=(
        Fault("a replica is always kept", _always_warm),
        Fault("a waiting question does not wake the model", _no_wake_up),
        Fault("the office hours' window opens at night", _night_shift),
    ),
)
