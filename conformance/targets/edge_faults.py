"""Faults at the edge: a gateway with another configuration, a guard that lets everybody in."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from conformance.gate import ProbeError
from conformance.targets.base import Target
from conformance.targets.reconfigured import running, started

Config = dict[str, Any]
Change = Callable[[Config], None]
LIMIT = "envoy.filters.http.local_ratelimit"


def http_filters(config: Config) -> Iterator[list[dict[str, Any]]]:
    """The filter chain of each listener in an Envoy configuration, to be changed in place."""
    for listener in config["static_resources"]["listeners"]:
        for chain in listener["filter_chains"]:
            yield from (f["typed_config"]["http_filters"] for f in chain["filters"])


def without_filter(name: str) -> Change:
    """Takes the HTTP filter `name` out; raises `ProbeError` when there is none."""

    def change(config: Config) -> None:
        removed = 0
        for chain in http_filters(config):
            kept = [f for f in chain if f["name"] != name]
            removed += len(chain) - len(kept)
            chain[:] = kept
        if not removed:
            raise ProbeError(f"the gateway's configuration has no filter {name}")

    return change


def limit_by_key(tenant: str) -> Change:
    """Gives each API key the bucket of `tenant`, and tenants none; raises `ProbeError`."""

    def change(config: Config) -> None:
        limits = [f["typed_config"] for c in http_filters(config) for f in c if f["name"] == LIMIT]
        entry = {"key": "tenant", "value": tenant}
        found = [d for limit in limits for d in limit["descriptors"] if d["entries"] == [entry]]
        if len(limits) != 1 or len(found) != 1:
            raise ProbeError(f"the gateway's configuration has no rate limit of {tenant}")
        for rule in limits[0]["rate_limits"]:
            rule["actions"][0]["request_headers"]["header_name"] = "x-api-key"
        limits[0]["descriptors"] = [found[0] | {"entries": [{"key": "tenant"}]}]

    return change


class _Loader(yaml.SafeLoader):
    """Takes an anchor that is defined again, as YAML and Envoy do and PyYAML does not."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """The next node; an anchor of an earlier one is forgotten."""
        event = self.peek_event()  # type: ignore[no-untyped-call]  # the stub has no types
        if not isinstance(event, yaml.AliasEvent):
            self.anchors.pop(getattr(event, "anchor", None), None)
        return super().compose_node(parent, index)


def _changed(config: str, change: Change) -> str:
    document = yaml.load(config, _Loader)  # noqa: S506 - a safe loader
    change(document)
    return yaml.safe_dump(document, sort_keys=False)


@contextmanager
def gateway_changed(target: Target, change: Change) -> Iterator[None]:
    """Inside the block the gateway runs with a changed configuration; the real one is back after."""
    how = started(target.processes.pid("envoy"))
    original = how.command[how.command.index("-c") + 1]
    changed = _changed(Path(original).read_text(encoding="utf-8"), change)
    with tempfile.TemporaryDirectory() as folder, target.processes.stopped("envoy"):
        path = Path(folder) / "envoy.yaml"
        path.write_text(changed, encoding="utf-8")
        command = [str(path) if part == original else part for part in how.command]
        with running(how._replace(command=command)):
            target.processes.wait_ready("envoy")
            yield


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
