"""Every failure as the HTTP problem that tells the caller what to do."""

import logging

from rag_common.problem import Problem
from rag_retrieval.answer import LLMError, LLMTimeoutError, LLMUnavailableError
from rag_retrieval.errors import (
    AuditError,
    DeadlineExceededError,
    QueueFullError,
    UpstreamRejectedError,
    UpstreamUnavailableError,
)
from rag_store.base import NoActiveGenerationError, StoreError, UnknownTenantError

log = logging.getLogger(__name__)
EXPECTED = (
    AuditError,
    DeadlineExceededError,
    LLMError,
    QueueFullError,
    StoreError,
    UpstreamRejectedError,
    UpstreamUnavailableError,
)


def _later(seconds: int) -> dict[str, str]:
    return {"retry-after": str(seconds)}


def as_problem(error: Exception, timings_ms: dict[str, float]) -> Problem:
    """The problem for `error`; a 504 tells how long each stage took."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, UnknownTenantError):
        return Problem(404, "Unknown tenant", "this tenant has not been onboarded")
    if isinstance(error, NoActiveGenerationError):
        return Problem(409, "Nothing indexed", "this tenant has no active index; run an ingestion")
    if isinstance(error, DeadlineExceededError):
        return Problem(504, "Too slow", str(error), stage=error.stage, timings_ms=timings_ms)
    if isinstance(error, LLMTimeoutError):
        return Problem(504, "Too slow", str(error), stage="llm", timings_ms=timings_ms)
    if isinstance(error, EXPECTED):
        return _unavailable(error)
    log.exception("a request failed", exc_info=error)
    return Problem(500, "Internal error", f"{type(error).__name__}; the log has the details")


def _unavailable(error: Exception) -> Problem:
    if isinstance(error, UpstreamUnavailableError):
        return Problem(503, f"{error.service} unavailable", error.detail, headers=_later(2))
    if isinstance(error, LLMUnavailableError):
        return Problem(503, "llm unavailable", str(error), headers=_later(10))
    if isinstance(error, QueueFullError):
        return Problem(503, "Overloaded", str(error), headers=_later(5))
    if isinstance(error, AuditError):
        return Problem(
            503,
            "Audit unavailable",
            "the audit record cannot be made durable, so the request is refused",
            headers=_later(5),
        )
    return Problem(502, "Upstream error", str(error))
