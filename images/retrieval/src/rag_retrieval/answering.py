"""One answer as a stream of events; the JSON answer is the data of the last one."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from rag_common.tenancy import TenantClaims
from rag_retrieval.answer import Answerer, Prepared
from rag_retrieval.audit import AuditTrail, Sink
from rag_retrieval.deadline import Deadline
from rag_retrieval.guard import PassageGuard
from rag_retrieval.inference import InferenceQueue
from rag_retrieval.metrics import Metrics
from rag_retrieval.pipeline import Ask, Pipeline
from rag_retrieval.recorded import Recorded
from rag_retrieval.sse import Event
from rag_retrieval.timing import Timings
from rag_retrieval.types import Outcome, Retrieval, Sentence
from rag_retrieval.views import answer_body, answer_text, sentence_view

PATH = "/v1/answer"
CLOSING_SECONDS = 0.5  # kept back from the model for verification and the audit


@dataclass(frozen=True, slots=True)
class _Request:
    """What belongs to one request."""

    claims: TenantClaims
    question: str
    deadline: Deadline
    timings: Timings
    trail: AuditTrail


@dataclass(frozen=True, slots=True)
class Answering:
    """Retrieves, screens, asks the model behind the queue, records."""

    pipeline: Pipeline
    guard: PassageGuard
    answerer: Answerer
    queue: InferenceQueue
    sink: Sink
    metrics: Metrics
    top_n: int
    deadline_seconds: float

    async def events(self, claims: TenantClaims, question: str) -> AsyncGenerator[Event, None]:
        """`meta`, `sentence` …, `done`; raises `Problem`. Intent before `meta`, completion before `done`."""
        trail = AuditTrail(self.sink, self.metrics, claims, PATH, question)
        deadline = Deadline.after(self.deadline_seconds)
        request = _Request(claims, question, deadline, Timings(), trail)
        async with Recorded(trail, request.timings, self.metrics, PATH) as record:
            retrieval, prepared = await self._prepare(request)
            await trail.intent()
            yield Event("meta", _meta(claims.request_id, retrieval, prepared))
            outcome: Outcome | None = None
            told: list[str] = []
            async with aclosing(self._answer(request, retrieval, prepared)) as items:
                async for item in items:
                    if isinstance(item, Sentence):
                        told.append(item.text)
                        trail.note(response=" ".join(told))  # also of a stream that breaks off
                        yield Event("sentence", sentence_view(item))
                    else:
                        outcome = item
            assert outcome is not None, "the answerer ended without an outcome"
            yield await self._done(request, retrieval, outcome, record)

    async def _prepare(self, request: _Request) -> tuple[Retrieval, Prepared]:
        ask = Ask(request.claims.tenant, request.question, self.top_n)
        retrieval = await self.pipeline.retrieve(ask, request.deadline, request.timings)
        request.trail.note_retrieval(retrieval)
        retrieval = await self._screened(request, retrieval)
        with request.timings.stage("evidence"):
            async with request.deadline.bound("evidence"):
                prepared = await self.answerer.prepare(request.question, retrieval)
        request.trail.note(
            prompt=prepared.prompt, model=prepared.model, prompt_version=prepared.prompt_version
        )
        return retrieval, prepared

    async def _screened(self, request: _Request, retrieval: Retrieval) -> Retrieval:
        with request.timings.stage("guard", passages=len(retrieval.passages)):
            screened = await self.guard.screen(retrieval, request.deadline, request.claims)
        if not screened.dropped:
            return retrieval
        request.trail.note(dropped_passages=screened.dropped)
        return self.pipeline.judged(screened.retrieval)

    async def _answer(
        self, request: _Request, retrieval: Retrieval, prepared: Prepared
    ) -> AsyncGenerator[Sentence | Outcome, None]:
        if prepared.decline_reason:  # the model is not asked, so there is nothing to queue for
            async for item in self._items(request, retrieval, prepared):
                yield item
            return
        async with self.queue.slot(request.deadline) as deadline:
            request = replace(request, deadline=deadline)
            with request.timings.detached_stage("llm"):
                async for item in self._items(request, retrieval, prepared):
                    yield item

    async def _items(
        self, request: _Request, retrieval: Retrieval, prepared: Prepared
    ) -> AsyncGenerator[Sentence | Outcome, None]:
        left = max(0.0, request.deadline.remaining() - CLOSING_SECONDS)
        stream = self.answerer.answer(
            request.question, retrieval, deadline_seconds=left, prepared=prepared
        )
        try:
            while True:
                async with request.deadline.bound("llm"):
                    item = await anext(stream, None)
                if item is None:
                    return
                yield item
        finally:
            if isinstance(stream, AsyncGenerator):
                await stream.aclose()  # frees the model when the caller has gone

    async def _done(
        self, request: _Request, retrieval: Retrieval, outcome: Outcome, record: Recorded
    ) -> Event:
        self._count(outcome)
        timings = request.timings.as_dict()
        body = answer_body(request.claims.request_id, retrieval, outcome, timings)
        await record.done(
            outcome.status,
            response=answer_text(outcome),
            model_output=outcome.response,
            model=outcome.model,
            decline_reason=outcome.decline_reason,
            dropped_sentences=outcome.dropped,
            usage=outcome.usage,
        )
        self.metrics.answer_latency.observe(request.timings.seconds())
        return Event("done", body)

    def _count(self, outcome: Outcome) -> None:
        self.metrics.sentences.labels("shown").inc(len(outcome.sentences))
        self.metrics.sentences.labels("dropped").inc(len(outcome.dropped))
        if outcome.response:
            self.metrics.grounded.observe(float(is_grounded(outcome.sentences)))


def is_grounded(sentences: Sequence[Sentence]) -> bool:
    """Whether something was said and every sentence of it cites a chunk."""
    return bool(sentences) and all(sentence.citations for sentence in sentences)


def _meta(request_id: str, retrieval: Retrieval, prepared: Prepared) -> dict[str, Any]:
    return {
        "request_id": request_id,
        "relevance": retrieval.relevance,
        "answerability": prepared.answerability,
        "model": prepared.model,
        "prompt_version": prepared.prompt_version,
    }
