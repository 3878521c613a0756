"""The HTTP application."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response

from rag_common.ops import install_ops
from rag_common.problem import Problem, install_problem_handlers
from rag_embedding.answer import json_response
from rag_embedding.backend import Backend
from rag_embedding.batching import Batcher, BatchStatistics
from rag_embedding.metrics import Metrics, RequestCounter
from rag_embedding.schema import EmbeddingRequest, RerankRequest
from rag_embedding.service import Service
from rag_embedding.settings import Settings

CLIENT_CLOSED_REQUEST = 499


async def _unless_abandoned(request: Request, work: Awaitable[Response]) -> Response:
    """Do `work`, but cancel it when the client goes away."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Problem(CLIENT_CLOSED_REQUEST, "Client closed request", "nobody waits any more")
    finally:
        task.cancel()
        gone.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def create_app(backend: Backend, settings: Settings) -> FastAPI:
    """The application around a loaded backend."""
    batcher = Batcher(
        backend, max_batch_tokens=settings.max_batch_tokens, max_queue=settings.max_queue
    )
    metrics = Metrics(lambda: batcher.depth)
    batcher.statistics = BatchStatistics(metrics.on_batch)
    service = Service(backend, batcher)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        yield
        await batcher.stop()

    async def not_ready() -> str | None:
        return None if batcher.healthy else "the batcher does not run"

    app = FastAPI(title="RAG embedding", lifespan=lifespan)
    install_problem_handlers(app)
    install_ops(app, metrics.registry, not_ready)
    app.add_middleware(RequestCounter, metrics=metrics)
    _install_routes(app, service)
    return app


def _install_routes(app: FastAPI, service: Service) -> None:
    @app.post("/v1/embeddings")
    async def embeddings(body: EmbeddingRequest, request: Request) -> Response:
        return await _unless_abandoned(request, service.embeddings(body))

    @app.post("/v1/rerank")
    async def rerank(body: RerankRequest, request: Request) -> Response:
        return await _unless_abandoned(request, service.rerank(body))

    @app.get("/v1/models")
    async def models() -> Response:
        return json_response({"object": "list", "data": [_describe(service.backend)]})

    @app.get("/v1/models/{model:path}/tokenizer")
    async def tokenizer(model: str) -> Response:
        service.check_model(model)
        return Response(service.backend.tokenizer_json(), media_type="application/json")


def _describe(backend: Backend) -> dict[str, object]:
    return {
        "id": backend.name,
        "object": "model",
        "digest": backend.digest,
        "dimension": backend.dimension,
        "max_tokens": backend.max_tokens,
        "outputs": sorted(backend.outputs),
    }
