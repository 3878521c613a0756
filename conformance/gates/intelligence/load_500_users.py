"""load-500-users: five hundred users who think and ask, held for five minutes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from conformance.corpora.prepare import TENANT, prepared
from conformance.gate import Context, Fault, Gate, Measurement, Observation, Phase, Plot, ProbeError
from conformance.probes import users
from conformance.probes.cluster.workloads import stopped
from conformance.probes.users import Request, Seen
from conformance.stats import exactly, percentile, share

GUARD = ("rag-gateway", "guard")
ANSWER = "/v1/answer"
MINUTE = 60.0


def measure(context: Context) -> Observation:
    """Users, failures, rate of the slowest minute and P95 while all users are there."""
    hold = float(context.parameter("hold_seconds"))
    orders = _orders(context)
    seen = _asked(context, orders, hold)
    start, end = seen.held(orders["users"], hold)
    # An answer takes long: those of the autoscalers' time count too.
    settling = start - float(context.parameter("settle_seconds"))
    present = [r for r in seen.requests if settling <= r.at <= end]
    answers = [r for r in present if r.path == ANSWER and r.error != users.REFUSED]
    held = [r for r in present if r.at >= start]
    passed = [r for r in held if r.error != users.REFUSED]
    failed = [r for r in passed if r.error]
    context.evidence.write("requests.jsonl", held)
    metrics = {
        "users": _fewest(seen.users, start, end),
        "answering_users": _fewest(seen.answering, start, end),
        "requests_per_second": _slowest(held, start, end),
        "failed_share": share(len(failed), len(held)),
        "refused_share": share(len(held) - len(passed), len(held)),
        "p95": percentile([_seconds(r) for r in passed], 0.95),
    }
    if answers:
        metrics["answer_p95"] = percentile([_seconds(r) for r in answers], 0.95)
    return Observation(
        metrics,
        notes=[
            f"{orders['users'] - orders['answering_users']} users asked for passages, "
            f"{orders['answering_users']} for answers by the model ({len(answers)} in all)",
            *sorted({r.error for r in failed})[:5],
        ],
        plots=_plots(seen, held, start),
    )


def _orders(context: Context) -> dict[str, Any]:
    host = context.target.outside()  # five hundred would measure the suite's own door
    if not host:
        raise ProbeError(
            "no way leads to the gateway but the suite's door, which is too narrow for this load: "
            "name gateway_url in target.json, or open a port of the node to it"
        )
    names = ("users", "answering_users", "spawn_rate", "think_seconds", "connections")
    corpus = prepared(context).full.corpus
    return {
        **{name: context.parameter(name) for name in names},
        "host": host,
        "timeout_seconds": float(context.parameter("answer_seconds")),
        "questions": [query.text for query in corpus.answerable],
    }


def _asked(context: Context, orders: dict[str, Any], hold: float) -> Seen:
    """The run: users come, and stay for as long as is judged."""
    settle = float(context.parameter("settle_seconds"))  # the autoscalers follow
    seconds = orders["users"] / orders["spawn_rate"] + settle + hold
    return users.run(
        orders,
        workers=int(context.parameter("workers")),
        seconds=seconds,
        api_key=context.target.api_key(TENANT),
        progress=lambda done: context.progress(int(min(done, seconds)), int(seconds), "users ask"),
    )


def _fewest(counted: Sequence[tuple[float, int]], start: float, end: float) -> Measurement:
    """The fewest users of any second between the two."""
    counts = [count for at, count in counted if start <= at <= end]
    return exactly(min(counts, default=0), len(counts))


def _seconds(request: Request) -> float:
    """A request that failed never ended, for a quantile."""
    return float("inf") if request.error else request.seconds


def _slowest(held: Sequence[Request], start: float, end: float) -> Measurement:
    """Requests a second that ended well, in the slowest whole minute (or all of a shorter time)."""
    span = min(MINUTE, end - start)
    counts = [
        sum(not r.error and start + i * span <= r.at < start + (i + 1) * span for r in held)
        for i in range(int((end - start) / span))
    ]
    if not counts:
        raise ProbeError("the load was not held for any time")
    return exactly(min(counts) / span, len(counts), "/s")


def _plots(seen: Seen, held: Sequence[Request], start: float) -> list[Plot]:
    step = 5.0
    slots: dict[int, list[float]] = {}
    for request in held:
        if not request.error:
            slots.setdefault(int((request.at - start) // step), []).append(request.seconds)
    rate = [(i * step, len(found) / step) for i, found in sorted(slots.items())]
    p95 = [(i * step, percentile(found, 0.95).value) for i, found in sorted(slots.items())]
    crowd = [(at - start, float(count)) for at, count in seen.users]
    return [
        Plot("Requests under load", "seconds", "requests/s served", {"served": rate}),
        Plot("Latency under load", "seconds", "P95 in seconds", {"P95": p95}),
        Plot("Users", "seconds", "users", {"users": crowd}),
    ]


@contextmanager
def _no_guard(context: Context) -> Iterator[None]:
    with stopped(context.target.cluster, *GUARD):
        yield


GATE = Gate(
    id="load-500-users",
    phase=Phase.INTELLIGENCE,
    title="Five hundred users at once are served in time",
    promise="Load test to 500 concurrent users",
    measure=measure,
    faults=(Fault("the guard is down, so the gateway refuses", _no_guard),),
)
