"""The two records of a request: what is about to be told, and what was."""

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from rag_common.tenancy import TenantClaims
from rag_retrieval.audit.sink import Sink
from rag_retrieval.errors import AuditError
from rag_retrieval.metrics import Metrics
from rag_retrieval.types import Retrieval

Event = Literal["intent", "completion"]


def _now() -> str:
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="microseconds")


class AuditTrail:
    """Writes a request's intent and completion; both raise `AuditError` if not made durable."""

    def __init__(
        self, sink: Sink, metrics: Metrics, claims: TenantClaims, path: str, query: str
    ) -> None:
        self._sink, self._metrics = sink, metrics
        self._record: dict[str, Any] = {
            "event": "intent",
            "request_id": claims.request_id,
            "tenant": claims.tenant,
            "user": claims.user,
            "time": "",
            "path": path,
            "query": query,
            "chunks": [],
            "model": None,
            "prompt_version": None,
            "prompt": None,
            "response": None,
            "status": None,
            "guard_verdict": claims.verdict,
            "dropped_passages": [],
            "error": None,
            "timings_ms": {},
        }
        self._intent: asyncio.Future[None] | None = None
        self.completed = False

    def note(self, **known: Any) -> None:
        """Remember what became known about the request."""
        self._record |= known

    def note_retrieval(self, retrieval: Retrieval) -> None:
        """Remember which chunks were retrieved, with their scores, and by which model."""
        chunks = [{"chunk_id": p.hit.chunk.chunk_id, "score": p.score} for p in retrieval.passages]
        name, digest = retrieval.vectors.model_name, retrieval.vectors.model_digest
        embedding = {"name": name, "digest": digest}
        self.note(chunks=chunks, model=name, embedding_model=embedding)

    def begin(self) -> None:
        """Start to write the intent; `completion` or `intent` waits for it."""
        if self._intent is None:
            self._intent = self._submit("intent")

    async def intent(self) -> None:
        """Make the intent durable; later calls do nothing."""
        self.begin()
        assert self._intent is not None
        await self._durable(self._intent)

    async def completion(self, status: str, timings_ms: Mapping[str, float], **known: Any) -> None:
        """Make the completion durable, and the intent when that was not reached; once only."""
        if self.completed:
            return
        self.completed = True
        self.begin()
        assert self._intent is not None
        self._record |= {"status": status, "timings_ms": timings_ms, **known}
        written = self._submit("completion")
        await self._durable(self._intent, written)
        self._metrics.audit_records.labels("intent").inc()
        self._metrics.audit_records.labels("completion").inc()

    def _submit(self, event: Event) -> "asyncio.Future[None]":
        return self._sink.submit(self._line(event), self._record["request_id"])

    def _line(self, event: Event) -> bytes:
        self._record |= {"event": event, "time": _now()}
        try:
            return orjson.dumps(
                self._record, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY
            )
        except TypeError as error:
            raise AuditError(f"an audit record cannot be written as JSON: {error}") from error

    async def _durable(self, *written: "asyncio.Future[None]") -> None:
        # Shielded: a cancelled request must not cancel a write that others' order depends on.
        try:
            for future in written:
                await asyncio.shield(future)
        except AuditError:
            self._metrics.audit_failures.inc()
            raise
