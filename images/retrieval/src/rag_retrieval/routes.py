"""The two endpoints."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response

from rag_common.problem import Problem
from rag_common.tenancy import TenantClaims, TokenVerifier
from rag_retrieval.answering import Answering
from rag_retrieval.audit import AuditTrail
from rag_retrieval.auth import authenticate
from rag_retrieval.deadline import Deadline
from rag_retrieval.pipeline import Ask
from rag_retrieval.recorded import Recorded
from rag_retrieval.requests import AnswerRequest, RetrieveRequest, read_body, schema_of
from rag_retrieval.sse import Event, EventStream, disconnected
from rag_retrieval.timing import Timings
from rag_retrieval.views import json_response, retrieval_body

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Serves `/v1/retrieve` and `/v1/answer`."""

    answering: Answering
    verifier: TokenVerifier
    deadline_seconds: float

    async def retrieve(self, request: Request) -> Response:
        """Ranked passages for a query."""
        claims = authenticate(request, self.verifier)
        body = await read_body(request, RetrieveRequest)
        shared = self.answering
        timings, deadline = Timings(), Deadline.after(self.deadline_seconds)
        trail = AuditTrail(shared.sink, shared.metrics, claims, "/v1/retrieve", body.query)
        async with Recorded(trail, timings, shared.metrics, "/v1/retrieve") as record:
            trail.begin()
            ask = _ask(claims, body, shared.top_n)
            retrieval = await shared.pipeline.retrieve(ask, deadline, timings)
            trail.note_retrieval(retrieval)
            await record.done("ok")
            told = timings.as_dict()
            return json_response(
                retrieval_body(claims.request_id, claims.tenant, retrieval, told),
                claims.request_id,
            )

    async def answer(self, request: Request) -> Response:
        """A cited answer, as JSON or as server-sent events."""
        claims = authenticate(request, self.verifier)
        body = await read_body(request, AnswerRequest)
        events = self.answering.events(claims, body.question)
        if not body.stream:
            last = await unless_gone(request, _last(events))
            return json_response(dict(last.data), claims.request_id)
        first = await unless_gone(request, anext(events))
        headers = {"x-request-id": claims.request_id}
        return EventStream(first, events, headers)


def _ask(claims: TenantClaims, body: RetrieveRequest, top_n: int) -> Ask:
    return Ask(
        tenant=claims.tenant,
        query=body.query,
        top_n=body.top_n or top_n,
        mode=body.mode,
        rerank=body.rerank,
        exact=body.exact,
    )


async def _last(events: AsyncGenerator[Event, None]) -> Event:
    async with aclosing(events):
        return [event async for event in events][-1]


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled (and recorded as aborted) when the client goes."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(disconnected(request.receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
    try:
        return await working
    except asyncio.CancelledError:
        raise Problem(499, "Client closed the request", "nobody is there to answer") from None


def install_routes(app: FastAPI, endpoints: Endpoints) -> None:
    """Add both endpoints to `app`."""
    app.post("/v1/retrieve", openapi_extra=schema_of(RetrieveRequest), response_model=None)(
        endpoints.retrieve
    )
    app.post("/v1/answer", openapi_extra=schema_of(AnswerRequest), response_model=None)(
        endpoints.answer
    )
