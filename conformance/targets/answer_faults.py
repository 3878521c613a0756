"""Faults to plant in a running platform: a lying LLM, changed answers, a full disk."""

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from conformance.targets import http
from conformance.targets.base import Target
from conformance.targets.reconfigured import reconfigured
from rag_common.tenancy import HEADER

Json = dict[str, Any]
Reply = Callable[[list[str], str], list[Json]]
Change = Callable[[str, Json], Json]
Headers = dict[str, str]
Sent = Callable[[str, Headers], Headers]
_SOURCE = re.compile(r"\[S(\d+)\]\s*(.*?)(?=\n\[S\d+\]|\n</sources>|\Z)", re.DOTALL)
_NOT_FORWARDED = {"host", "content-length", "transfer-encoding", "connection", "content-encoding"}
_USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


def copy_first_source(sources: list[str], question: str) -> list[Json]:
    """The first source word for word, as a model that only copies would answer."""
    return [{"sources": ["S1"], "text": sources[0]}] if sources else []


def invent(sources: list[str], question: str) -> list[Json]:
    """Something no source says, with a citation."""
    text = "The Zemblan Ministry put the figure at 48,213 quintals in the spring of 1874."
    return [{"sources": ["S1"], "text": text}]


@contextmanager
def language_model(target: Target, reply: Reply) -> Iterator[None]:
    """Inside the block retrieval asks a stand-in LLM whose answers `reply` makes."""
    with (
        target.processes.stand_in("llm", stand_in(reply)) as url,
        reconfigured(target, "retrieval", LLM_URL=url),
    ):
        yield


def stand_in(reply: Reply) -> Starlette:
    """An OpenAI-compatible server without a model."""

    async def complete(request: Request) -> Response:
        body = await request.json()
        prompt = str(body["messages"][-1]["content"])
        sources = [text.strip() for _, text in _SOURCE.findall(prompt)]
        content = json.dumps({"answer": reply(sources, prompt)})
        if body.get("stream"):
            return StreamingResponse(_events(content), media_type="text/event-stream")
        message = {"role": "assistant", "content": content}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return JSONResponse({"model": "stand-in", "choices": [choice], "usage": _USAGE})

    async def ready(_: Request) -> Response:
        return JSONResponse({"status": "ok", "object": "list", "data": [{"id": "stand-in"}]})

    paths = ("/health", "/readyz", "/healthz", "/v1/models")
    return Starlette(
        routes=[
            Route("/v1/chat/completions", complete, methods=["POST"]),
            *(Route(path, ready) for path in paths),
        ]
    )


async def _events(content: str) -> AsyncIterator[str]:
    for delta, reason in (({"role": "assistant", "content": content}, None), ({}, "stop")):
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        yield f"data: {json.dumps({'model': 'stand-in', 'choices': [choice]})}\n\n"
    yield f"data: {json.dumps({'model': 'stand-in', 'choices': [], 'usage': _USAGE})}\n\n"
    yield "data: [DONE]\n\n"


def as_it_is(path: str, passed: Any) -> Any:
    """Changes nothing."""
    return passed


@contextmanager
def another_tenants_answers(target: Target, tenant: str) -> Iterator[None]:
    """Inside the block retrieval makes every answer as if `tenant` had asked, whoever did."""

    def sent(path: str, headers: Headers) -> Headers:
        confused = {HEADER: target.tenant_token(tenant)} if path == "/v1/answer" else {}
        return headers | confused

    with answers_changed(target, "retrieval", as_it_is, sent):
        yield


def answers_changed(
    target: Target, name: str, change: Change, sent: Sent = as_it_is
) -> AbstractContextManager[None]:
    """Inside the block a proxy in front of program `name` passes its JSON through `change`."""
    return target.processes.fronted(name, lambda url: proxy(url, change, sent))


def proxy(url: str, change: Change, sent: Sent = as_it_is) -> Starlette:
    """A reverse proxy of `url`: JSON answers pass through `change`, requests' headers through `sent`."""
    client = http.async_client(url, 120)

    async def forward(request: Request) -> Response:
        answer = await client.request(
            request.method,
            request.url.path,
            params=request.query_params,
            content=await request.body(),
            headers=sent(request.url.path, _kept(request.headers.items())),
        )
        content = _changed(request, answer, change)
        return Response(content, answer.status_code, _kept(answer.headers.items()))

    return Starlette(routes=[Route("/{path:path}", forward, methods=["GET", "POST"])])


def _changed(request: Request, answer: httpx.Response, change: Change) -> bytes:
    kind = answer.headers.get("content-type", "")
    if answer.status_code != httpx.codes.OK or "json" not in kind:
        return answer.content
    return json.dumps(change(request.url.path, answer.json())).encode()


def _kept(headers: Any) -> dict[str, str]:
    return {k: v for k, v in headers if k.lower() not in _NOT_FORWARDED}


def without_citations(path: str, body: Json) -> Json:
    """An answer whose sentences cite nothing."""
    bare = [sentence | {"citations": []} for sentence in body.get("sentences", [])]
    return body | {"sentences": bare, "citations": []} if path == "/v1/answer" else body


def other_numbers(path: str, body: Json) -> Json:
    """An answer in which every digit is another, or `not` stands where none did."""
    if path != "/v1/answer":
        return body
    changed = [s | {"text": _misquoted(s["text"])} for s in body.get("sentences", [])]
    return body | {"sentences": changed, "answer": " ".join(s["text"] for s in changed)}


def _misquoted(text: str) -> str:
    if re.search(r"\d", text):
        return re.sub(r"\d", lambda m: str((int(m.group()) + 3) % 10), text)
    return re.sub(r"\b(is|are|was|were|has|have|can|will)\b", r"\1 not", text, count=1)


def always_sure(path: str, body: Json) -> Json:
    """A relevance that says nothing: .99 for every query."""
    return body | {"relevance": 0.99} if "relevance" in body else body
