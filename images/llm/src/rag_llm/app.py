"""OpenAI's endpoints in front of the engine, with the platform's operational endpoints and errors."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    generate_latest,
)

from rag_common.ops import install_ops
from rag_common.problem import Problem, install_problem_handlers
from rag_common.telemetry import configure_tracing

_PASSED = ("content-type",)


class _Metrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "llm_requests", "Chat completions by HTTP status.", ["status"], registry=registry
        )
        self.open = Gauge("llm_open_requests", "Completions queued or running.", registry=registry)


def create_app(client: httpx.AsyncClient) -> FastAPI:
    """The application; `client` reaches the engine and is closed at shutdown."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await client.aclose()

    app = FastAPI(title="rag-llm", lifespan=lifespan)
    registry = CollectorRegistry()
    install_problem_handlers(app)
    _install_metrics(app, client, registry)
    install_ops(app, registry, lambda: _not_ready(client))
    _install_openai(app, client, _Metrics(registry))
    configure_tracing(app, "rag-llm")
    return app


async def _not_ready(client: httpx.AsyncClient) -> str | None:
    try:
        response = await client.get("/health")
    except httpx.HTTPError as error:
        return f"the engine does not answer: {type(error).__name__}"
    return None if response.is_success else f"the engine answered {response.status_code}"


def _install_metrics(app: FastAPI, client: httpx.AsyncClient, registry: CollectorRegistry) -> None:
    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        """The engine's metrics (`llamacpp:*`), then our own."""
        try:
            engine = (await client.get("/metrics")).content
        except httpx.HTTPError:
            engine = b""
        return Response(engine + generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _install_openai(app: FastAPI, client: httpx.AsyncClient, metrics: _Metrics) -> None:
    @app.get("/health")
    async def health() -> dict[str, str]:
        if reason := await _not_ready(client):
            raise Problem(503, "Not ready", reason)
        return {"status": "ok"}

    @app.get("/v1/models")
    async def models() -> Response:
        return await _whole(await _send(client, "GET", "/v1/models", b""))

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        metrics.open.inc()
        try:
            upstream = await _send(client, "POST", request.url.path, await request.body())
        except BaseException:
            metrics.open.dec()
            raise
        metrics.requests.labels(str(upstream.status_code)).inc()
        return await _passed_on(upstream, metrics.open)


async def _send(client: httpx.AsyncClient, method: str, path: str, body: bytes) -> httpx.Response:
    headers = {"content-type": "application/json"}
    request = client.build_request(method, path, content=body, headers=headers)
    try:
        return await client.send(request, stream=True)
    except httpx.TimeoutException as error:
        raise Problem(504, "Engine timeout", "the engine did not answer in time") from error
    except httpx.TransportError as error:
        raise Problem(
            503, "Engine unavailable", type(error).__name__, headers={"Retry-After": "1"}
        ) from error


async def _passed_on(upstream: httpx.Response, open_requests: Gauge) -> Response:
    streaming = upstream.headers.get("content-type", "").startswith("text/event-stream")
    if not streaming or not upstream.is_success:
        try:
            return await _whole(upstream)
        finally:
            open_requests.dec()

    async def pieces() -> AsyncIterator[bytes]:
        # When the caller goes away this is cancelled, and closing upstream stops the generation.
        try:
            async for piece in upstream.aiter_raw():
                yield piece
        finally:
            open_requests.dec()
            await upstream.aclose()

    return StreamingResponse(pieces(), media_type="text/event-stream")


async def _whole(upstream: httpx.Response) -> Response:
    body = await upstream.aread()
    await upstream.aclose()
    if not upstream.is_success:
        raise Problem(upstream.status_code, "The engine refused", _message(body))
    headers = {name: upstream.headers[name] for name in _PASSED if name in upstream.headers}
    return Response(body, headers=headers)


def _message(body: bytes) -> str:
    try:
        error: Any = json.loads(body)["error"]
        return str(error["message"])
    except (ValueError, KeyError, TypeError):
        return body[:300].decode(errors="replace")
