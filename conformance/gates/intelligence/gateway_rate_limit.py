"""gateway-rate-limit: a tenant over its rate is refused, whichever key it uses; others are not."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from rag_common.files import read_secret

from conformance.corpora.prepare import TENANT, prepared
from conformance.gate import Context, Fault, Gate, Measurement, Observation, Phase, ProbeError
from conformance.stats import share
from conformance.targets.base import Target
from conformance.targets.edge_faults import gateway_without
from conformance.targets.http import client

LIMITED = "conformance-limited"
BURST = 30  # what the target allows this tenant at once, and in a minute
OVER = 2 * BURST
BODY = {"query": "What is the travel policy?"}
_LIMITED = httpx.codes.TOO_MANY_REQUESTS


def _keys(target: Target) -> tuple[str, str]:
    second = target.description.extra.get("second_api_keys", {}).get(LIMITED)
    if not second:
        raise ProbeError(f"the target names no second API key of tenant {LIMITED}")
    return target.api_key(LIMITED), read_secret(Path(second))


def _post(session: httpx.Client, key: str) -> int:
    return session.post("/v1/retrieve", json=BODY, headers={"x-api-key": key}).status_code


def measure(context: Context) -> Observation:
    """Exhaust one tenant's bucket with one key; then ask with its other key and as another tenant."""
    prepared(context)
    first, second = _keys(context.target)
    other = context.target.api_key(TENANT)
    statuses: dict[str, list[int]] = {"first": [], "second": [], "other": []}
    with client(context.target.description.gateway_url, 30) as session:
        for done in range(OVER):
            statuses["first"].append(_post(session, first))
            context.progress(done, OVER, "over the limit")
            if statuses["first"][-5:] == [_LIMITED] * 5:
                break
        for _ in range(10):
            statuses["second"].append(_post(session, second))
            statuses["other"].append(_post(session, other))
    context.evidence.write("statuses.json", statuses)
    return Observation(_metrics(statuses))


def _metrics(statuses: dict[str, list[int]]) -> dict[str, Measurement]:
    """The bucket refills while it is measured: one token every two seconds may still pass."""
    tail = statuses["first"][-5:]
    shared = [status == _LIMITED for status in statuses["second"]]
    served = [status == httpx.codes.OK for status in statuses["other"]]
    return {
        "limited_share": share(sum(s == _LIMITED for s in tail), len(tail)),
        "limit_shared_across_keys_share": share(sum(shared), len(shared)),
        "other_tenant_accepted_share": share(sum(served), len(served)),
    }


@contextmanager
def _no_limit(context: Context) -> Iterator[None]:
    with gateway_without(context.target, "envoy.filters.http.local_ratelimit"):
        yield


GATE = Gate(
    id="gateway-rate-limit",
    phase=Phase.INTELLIGENCE,
    title="Rate limit per tenant",
    promise="A tenant over its rate is refused with any of its keys; other tenants are served.",
    measure=measure,
    faults=(Fault("a gateway without the rate limit", _no_limit),),
)
