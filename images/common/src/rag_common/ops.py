"""The operational endpoints every service has: /healthz, /readyz and /metrics."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from rag_common.problem import Problem

Readiness = Callable[[], Awaitable[str | None]]


def install_ops(app: FastAPI, registry: CollectorRegistry, not_ready: Readiness) -> None:
    """Add the endpoints; `not_ready` returns the reason why the service is not ready, or None."""

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> dict[str, str]:
        if reason := await not_ready():
            raise Problem(503, "Not ready", reason)
        return {"status": "ready"}

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
