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
LIMIT = "envoy.filters.http.local_ratelimit"


def without_filter(name: str) -> Change:
    """Takes the HTTP filter `name` out; raises `ProbeError` when there is none."""

    def change(filters: Filters) -> None:
        kept = [f for f in filters if f["name"] != name]
        if len(kept) == len(filters):
            raise ProbeError(f"the gateway's configuration has no filter {name}")
        filters[:] = kept

    return change


def limit_by_key(tenant: str) -> Change:
    """Gives each API key the bucket of `tenant`, and tenants none; raises `ProbeError`."""

    def change(filters: Filters) -> None:
        limits = [f["typed_config"] for f in filters if f["name"] == LIMIT]
        entry = {"key": "tenant", "value": tenant}
        found = [d for limit in limits for d in limit["descriptors"] if d["entries"] == [entry]]
        if len(limits) != 1 or len(found) != 1:
            raise ProbeError(f"the gateway's configuration has no rate limit of {tenant}")
        for rule in limits[0]["rate_limits"]:
            rule["actions"][0]["request_headers"]["header_name"] = "x-api-key"
        limits[0]["descriptors"] = [found[0] | {"entries": [{"key": "tenant"}]}]

    return change


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
