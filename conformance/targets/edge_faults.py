"""Faults at the edge: a gateway that lacks a filter, a guard that lets everybody in."""

import subprocess
import tempfile
from collections.abc import Iterator
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
from conformance.targets.reconfigured import STOP_SECONDS, started


def without_filter(config: str, name: str) -> str:
    """An Envoy configuration without the HTTP filter `name`; raises `ProbeError` when it has none."""
    document = yaml.safe_load(config)
    removed = 0
    for manager in _managers(document):
        kept = [f for f in manager["http_filters"] if f["name"] != name]
        removed += len(manager["http_filters"]) - len(kept)
        manager["http_filters"] = kept
    if not removed:
        raise ProbeError(f"the gateway's configuration has no filter {name}: no fault to plant")
    return yaml.safe_dump(document, sort_keys=False)


def _managers(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for listener in document["static_resources"]["listeners"]:
        for chain in listener["filter_chains"]:
            yield from (f["typed_config"] for f in chain["filters"])


@contextmanager
def gateway_without(target: Target, name: str) -> Iterator[None]:
    """Inside the block the gateway runs without the HTTP filter `name`; the real one is back after."""
    how = started(target.processes.pid("envoy"))
    original = how.command[how.command.index("-c") + 1]
    changed = without_filter(Path(original).read_text(encoding="utf-8"), name)
    with tempfile.TemporaryDirectory() as folder, target.processes.stopped("envoy"):
        path = Path(folder) / "envoy.yaml"
        path.write_text(changed, encoding="utf-8")
        command = [str(path) if part == original else part for part in how.command]
        process = subprocess.Popen(  # noqa: S603 - the program that ran before
            command,
            cwd=how.directory,
            env=how.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            target.processes.wait_ready("envoy")
            yield
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)


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
