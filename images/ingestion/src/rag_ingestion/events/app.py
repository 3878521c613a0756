"""Health, readiness and metrics of the event consumer, which runs beside them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI

from rag_common.ops import install_ops
from rag_common.problem import install_problem_handlers
from rag_ingestion.events.brokers import Broker, connect, consume, put_aside
from rag_ingestion.events.handler import Handler
from rag_ingestion.events.lag import LagCollector, watch
from rag_ingestion.events.metrics import Metrics
from rag_ingestion.events.settings import EventSettings

_PING_SECONDS = 2.0


def create_app(settings: EventSettings, broker: Broker, metrics: Metrics | None = None) -> FastAPI:
    """The application, which connects the broker and closes it."""
    measured = metrics or Metrics()
    handler = Handler(settings, partial(put_aside, broker, settings), measured)
    consume(broker, settings, handler)
    waiting = LagCollector()
    measured.registry.register(waiting)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await connect(broker, settings)
        watching = asyncio.create_task(watch(broker, settings, waiting))
        try:
            yield
        finally:
            watching.cancel()
            await broker.stop()

    async def readiness() -> str | None:
        return None if await broker.ping(_PING_SECONDS) else "the broker does not answer"

    app = FastAPI(title="RAG ingestion events", lifespan=lifespan, docs_url=None, redoc_url=None)
    install_problem_handlers(app)
    install_ops(app, measured.registry, readiness)
    return app
