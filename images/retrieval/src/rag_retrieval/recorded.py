"""Every way out of a request ends in the audit trail: answered, failed or aborted."""

import asyncio
from types import TracebackType
from typing import Any

from rag_common.problem import Problem
from rag_retrieval.audit import AuditTrail
from rag_retrieval.audit.waiting import retrieved
from rag_retrieval.errors import AuditError
from rag_retrieval.failures import as_problem
from rag_retrieval.metrics import Metrics
from rag_retrieval.timing import Timings


class Recorded:
    """Turns an exception into a `Problem` once its completion is durable.

    A cancelled or closed request (the client went, the process stops) is recorded as aborted.
    """

    def __init__(self, trail: AuditTrail, timings: Timings, metrics: Metrics, path: str) -> None:
        self._trail, self._timings, self._metrics, self._path = trail, timings, metrics, path

    async def __aenter__(self) -> "Recorded":
        return self

    async def done(self, status: str, **known: Any) -> None:
        """Make the completion durable; raises `AuditError`."""
        await self._trail.completion(status, self._timings.as_dict(), **known)
        self._metrics.requests.labels(self._path, status).inc()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception):
            problem = await self._failed(error)
            raise problem from error
        if error is not None:
            await self._aborted()

    async def _failed(self, error: Exception) -> Problem:
        problem = as_problem(error, self._timings.as_dict())
        told = {"status": problem.status, "title": problem.title, "detail": problem.detail}
        try:
            await self.done("failed", error=told)
        except AuditError as audit_error:
            self._metrics.requests.labels(self._path, "failed").inc()
            return as_problem(audit_error, {})
        return problem

    async def _aborted(self) -> None:
        # A task of its own: a second cancellation must not lose the record.
        writing = asyncio.ensure_future(self.done("aborted"))
        writing.add_done_callback(retrieved)
        try:
            await asyncio.shield(writing)
        except AuditError:
            self._metrics.requests.labels(self._path, "aborted").inc()
