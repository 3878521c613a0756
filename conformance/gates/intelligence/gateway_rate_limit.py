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
from conformance.targets.base import Target
from conformance.targets.edge_faults import LIMIT, gateway_changed, limit_by_key, without_filter
from conformance.targets.http import client
from rag_common.files import read_secret

LIMITED = "conformance-limited"
BURST = 30  # what the target allows this tenant at once …
PER_SECOND = 0.5  # … and what it adds while the tenant waits or asks
FIRST, SECOND, OTHER = 70, 20, 10
BODY = {"query": "What is the travel policy?"}
_LIMITED = httpx.codes.TOO_MANY_REQUESTS


@dataclass(frozen=True, slots=True)
class Series:
    """Statuses of requests sent one after the other, and the seconds they took."""

    statuses: Sequence[int]
    seconds: float

    def refused_share(self, tokens: int) -> Measurement:
        """Of the requests beyond `tokens` and what was added meanwhile, the share refused.

        A bucket that was not full at the start refuses more than has to be: at most all count.
        Raises `ProbeError` when the requests were too slow to exceed the rate.
        """
        beyond = len(self.statuses) - tokens - math.ceil(self.seconds * PER_SECOND)
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
    first, second = _keys(context.target)
    with client(context.target.description.gateway_url, 30) as session:
        series = {
            "first": _series(context, session, first, FIRST, "over the limit"),
            "second": _series(context, session, second, SECOND, "with the other key"),
            "other": _series(context, session, context.target.api_key(TENANT), OTHER, "others"),
        }
    context.evidence.write("statuses.json", {name: asdict(s) for name, s in series.items()})
    return Observation(_metrics(series))


def _metrics(series: dict[str, Series]) -> dict[str, Measurement]:
    served = [status == httpx.codes.OK for status in series["other"].statuses]
    return {
        "limited_share": series["first"].refused_share(BURST),
        # One token may have been added between the last request of the one key and the other's first.
        "limit_shared_across_keys_share": series["second"].refused_share(1),
        "other_tenant_accepted_share": share(sum(served), len(served)),
    }


@contextmanager
def _no_limit(context: Context) -> Iterator[None]:
    with gateway_changed(context.target, without_filter(LIMIT)):
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
