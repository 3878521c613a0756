"""Faults at the edge: a gateway with other filters, a guard that lets everybody in."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from conformance.gate import ProbeError
from conformance.targets.base import Target

Filters = list[dict[str, Any]]
Change = Callable[[Filters], None]
LOCAL_LIMIT = "envoy.filters.http.local_ratelimit"  # one gateway's own
SHARED_LIMIT = "envoy.filters.http.ext_authz.limit"  # the guard counts for all replicas
LIMIT = (LOCAL_LIMIT, SHARED_LIMIT)
# What authentication has found out, where the guard looks for the tenant.
_USER_AS_TENANT = {
    "key": "x-rag-tenant",
    "value": "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:x-rag-user)%",
}


def without_filter(*names: str) -> Change:
    """Takes the HTTP filter out that has one of the names; raises `ProbeError` when none has."""

    def change(filters: Filters) -> None:
        kept = [f for f in filters if f["name"] not in names]
        if len(kept) == len(filters):
            raise ProbeError(f"the gateway's configuration has no filter {' or '.join(names)}")
        filters[:] = kept

    return change


def limit_by_key(tenant: str) -> Change:
    """Gives each API key a bucket of its own, and tenants none; raises `ProbeError`."""

    def change(filters: Filters) -> None:
        shared = [f["typed_config"]["http_service"] for f in filters if f["name"] == SHARED_LIMIT]
        if shared:
            shared[0]["authorization_request"] = {"headers_to_add": [_USER_AS_TENANT]}
            return
        _by_key(filters, tenant)

    return change


def _by_key(filters: Filters, tenant: str) -> None:
    limits = [f["typed_config"] for f in filters if f["name"] == LOCAL_LIMIT]
    entry = {"key": "tenant", "value": tenant}
    found = [d for limit in limits for d in limit["descriptors"] if d["entries"] == [entry]]
    if len(limits) != 1 or len(found) != 1:
        raise ProbeError(f"the gateway's configuration has no rate limit of {tenant}")
    for rule in limits[0]["rate_limits"]:
        rule["actions"][0]["request_headers"]["header_name"] = "x-api-key"
    limits[0]["descriptors"] = [found[0] | {"entries": [{"key": "tenant"}]}]


def gateway_changed(target: Target, change: Change) -> AbstractContextManager[None]:
    """Inside the block the gateway runs with changed filters; the real ones are back after."""
    return target.gateway_filters(change)


@contextmanager
def guard_that_lets_everybody_in(target: Target, tenant: str) -> Iterator[None]:
    """Inside the block everyone is `tenant`, whatever credential they send, and nothing is flagged."""

    async def allow(request: Request) -> Response:
        if request.url.path.startswith("/authz/authn"):
            return Response(headers={"x-rag-tenant": tenant, "x-rag-user": "anybody"})
        return Response(headers={"x-rag-tenant-token": target.tenant_token(tenant)})

    async def ready(_: Request) -> Response:
        return Response()

    routes = [Route("/readyz", ready), Route("/authz/{path:path}", allow, methods=["GET", "POST"])]
    with target.processes.replaced("guard", Starlette(routes=routes)):
        yield
