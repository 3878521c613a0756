"""The service put together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI

from rag_common.ops import install_ops
from rag_common.problem import install_problem_handlers
from rag_common.telemetry import configure_tracing
from rag_retrieval.parts import Parts
from rag_retrieval.readiness import not_ready
from rag_retrieval.routes import install_routes
from rag_retrieval.staleness import poll_staleness


def create_app(parts: Parts) -> FastAPI:
    """The application over `parts`, which it closes when it stops."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        seconds = parts.settings.staleness_poll_seconds
        polling = asyncio.create_task(poll_staleness(parts.store, parts.metrics, seconds))
        try:
            yield
        finally:
            polling.cancel()
            with suppress(asyncio.CancelledError):
                await polling
            await parts.close()

    async def readiness() -> str | None:
        return await not_ready(parts.store, parts.embedder, parts.guard, parts.sink)

    app = FastAPI(title="RAG retrieval", lifespan=lifespan, docs_url=None, redoc_url=None)
    install_problem_handlers(app)
    install_ops(app, parts.metrics.registry, readiness)
    install_routes(app, parts.endpoints())
    configure_tracing(app, "rag-retrieval")
    return app
