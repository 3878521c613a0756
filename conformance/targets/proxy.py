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
from conformance.targets.base import Target

Change = Callable[[Request, httpx.Response], Awaitable[bytes]]
_HOP_HEADERS = {"content-length", "transfer-encoding", "connection", "content-encoding"}


def forwarding(url: str, change: Change) -> Starlette:
    """A proxy of `url` that passes every answer's body through `change`."""
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

    return Starlette(routes=[Route("/{path:path}", forward, methods=["GET", "POST"])])


@contextmanager
def slowed(target: Target, name: str, *, seconds: float, every: int = 1) -> Iterator[str]:
    """The URL of a stand-in for program `name` that answers every POST, or one in `every`, late."""
    posts = itertools.count(1)

    async def late(request: Request, answer: httpx.Response) -> bytes:
        if request.method == "POST" and next(posts) % every == 0:
            await asyncio.sleep(seconds)
        return answer.content

    url = getattr(target.description, f"{name}_url")
    with target.processes.stand_in(name, forwarding(url, late)) as address:
        yield address
