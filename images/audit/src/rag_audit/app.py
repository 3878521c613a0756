"""Health, readiness and metrics of the indexer, which runs in a thread beside them."""

import logging
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from rag_audit.loop import Indexer
from rag_audit.metrics import Metrics
from rag_common.ops import install_ops
from rag_common.problem import install_problem_handlers

log = logging.getLogger(__name__)


class Running:
    """The indexer's thread; when it fails, the process ends."""

    def __init__(self, indexer: Indexer) -> None:
        self.indexer, self.failed = indexer, False
        self._thread = threading.Thread(target=self._run, name="indexer")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the batch at hand."""
        self.indexer.stop()
        self._thread.join()

    def _run(self) -> None:
        try:
            self.indexer.run()
        except Exception:
            log.exception("the indexer failed")
            self.failed = True
            signal.raise_signal(signal.SIGTERM)


def create_app(running: Running, metrics: Metrics) -> FastAPI:
    """The application, which starts and stops the indexer."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        running.start()
        try:
            yield
        finally:
            running.stop()

    async def readiness() -> str | None:
        return running.indexer.reason

    app = FastAPI(title="RAG audit indexer", lifespan=lifespan, docs_url=None, redoc_url=None)
    install_problem_handlers(app)
    install_ops(app, metrics.registry, readiness)
    return app
