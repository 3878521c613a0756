"""A reverse proxy in front of a service, for planting faults in what it answers."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from conformance.targets import http
from conformance.targets.answer_faults import free_url
from conformance.targets.processes import serving

Change = Callable[[Request, httpx.Response], Awaitable[bytes]]
_HOP_HEADERS = {"content-length", "transfer-encoding", "connection", "content-encoding"}


@contextmanager
def proxied(url: str, change: Change) -> Iterator[str]:
    """The URL of a proxy of `url` that passes every answer's body through `change`."""
    client = http.async_client(url, 120)

    async def forward(request: Request) -> Response:
        answer = await client.request(
            request.method,
            request.url.path,
            params=request.query_params,
            content=await request.body(),
            headers={"content-type": request.headers.get("content-type", "application/json")},
        )
        headers = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP_HEADERS}
        return Response(await change(request, answer), answer.status_code, headers)

    every = Route("/{path:path}", forward, methods=["GET", "POST"])
    address = free_url()
    with serving(Starlette(routes=[every]), address):
        yield address


@contextmanager
def slowed(url: str, *, seconds: float, every: int = 1) -> Iterator[str]:
    """The URL of a proxy of `url` that answers every POST, or one in `every`, `seconds` late."""
    posts = itertools.count(1)

    async def late(request: Request, answer: httpx.Response) -> bytes:
        if request.method == "POST" and next(posts) % every == 0:
            await asyncio.sleep(seconds)
        return answer.content

    with proxied(url, late) as address:
        yield address
