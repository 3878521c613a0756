"""gateway-rate-limit: a tenant over its rate is refused, whichever key it uses; others are not."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from conformance.corpora.prepare import TENANT, prepared
from conformance.gate import Context, Fault, Gate, Measurement, Observation, Phase, ProbeError
from conformance.stats import share
from conformance.targets.base import RateLimit, Target
from conformance.targets.edge_faults import LIMIT, gateway_changed, limit_by_key, without_filter
from conformance.targets.http import client
from rag_common.files import read_secret

LIMITED = "conformance-limited"
BEYOND, SECOND, OTHER = 40, 20, 10  # requests over the burst, with the other key, of another tenant
MOST = 2000  # a larger burst would take the gate's time, and is hardly a limit
BODY = {"query": "What is the travel policy?"}
_LIMITED = httpx.codes.TOO_MANY_REQUESTS


@dataclass(frozen=True, slots=True)
class Series:
    """Statuses of requests sent one after the other, and the seconds they took."""

    statuses: Sequence[int]
    seconds: float

    def refused_share(self, tokens: int, per_minute: float) -> Measurement:
        """Of the requests beyond `tokens` and what was added meanwhile, the share refused.

        A bucket that was not full at the start refuses more than has to be: at most all count.
        Raises `ProbeError` when the requests were too slow to exceed the rate.
        """
        beyond = len(self.statuses) - tokens - math.ceil(self.seconds * per_minute / 60)
        if beyond <= 0:
            raise ProbeError(
                f"{len(self.statuses)} requests took {self.seconds:.0f} s: within the rate"
            )
        return share(min(beyond, self.statuses.count(_LIMITED)), beyond)


def _keys(target: Target) -> tuple[str, str]:
    second = target.description.extra.get("second_api_keys", {}).get(LIMITED)
    if not second:
        raise ProbeError(f"the target names no second API key of tenant {LIMITED}")
    return target.api_key(LIMITED), read_secret(Path(second))


def _series(context: Context, session: httpx.Client, key: str, count: int, what: str) -> Series:
    statuses, start = [], time.monotonic()
    for done in range(1, count + 1):
        answer = session.post("/v1/retrieve", json=BODY, headers={"x-api-key": key})
        statuses.append(answer.status_code)
        context.progress(done, count, what)
    return Series(statuses, time.monotonic() - start)


def measure(context: Context) -> Observation:
    """Exhaust one tenant's bucket with one key; then ask with its other key and as another tenant."""
    prepared(context)
    limit = _limit(context.target)
    first, second = _keys(context.target)
    with client(context.target.description.gateway_url, 30) as session:
        series = {
            "first": _series(context, session, first, limit.burst + BEYOND, "over the limit"),
            "second": _series(context, session, second, SECOND, "with the other key"),
            "other": _series(context, session, context.target.api_key(TENANT), OTHER, "others"),
        }
    context.evidence.write("statuses.json", {name: asdict(s) for name, s in series.items()})
    declared = f"declared: {limit.burst} at once, {limit.requests_per_minute:g} a minute"
    return Observation(_metrics(series, limit), notes=[declared])


def _limit(target: Target) -> RateLimit:
    """What the target declares; raises `ProbeError` when it cannot be exceeded in good time."""
    limit = target.rate_limit(LIMITED)
    if limit.burst > MOST:
        raise ProbeError(
            f"rate_limits.{LIMITED}: a burst of {limit.burst}, at most {MOST} is asked"
        )
    return limit


def _metrics(series: dict[str, Series], limit: RateLimit) -> dict[str, Measurement]:
    rate = limit.requests_per_minute
    served = [status == httpx.codes.OK for status in series["other"].statuses]
    return {
        "limited_share": series["first"].refused_share(limit.burst, rate),
        # One token may have been added between the last request of the one key and the other's first.
        "limit_shared_across_keys_share": series["second"].refused_share(1, rate),
        "other_tenant_accepted_share": share(sum(served), len(served)),
    }


@contextmanager
def _no_limit(context: Context) -> Iterator[None]:
    with gateway_changed(context.target, without_filter(*LIMIT)):
        yield


@contextmanager
def _by_key(context: Context) -> Iterator[None]:
    with gateway_changed(context.target, limit_by_key(LIMITED)):
        yield


GATE = Gate(
    id="gateway-rate-limit",
    phase=Phase.INTELLIGENCE,
    title="Rate limit per tenant",
    promise="A tenant over its rate is refused with any of its keys; other tenants are served.",
    measure=measure,
    faults=(
        Fault("a gateway without the rate limit", _no_limit),
        Fault("a gateway that limits each key instead of each tenant", _by_key),
    ),
)
