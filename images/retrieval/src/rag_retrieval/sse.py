"""Server-sent events whose source always learns that the client has gone."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import Any, NamedTuple

import orjson
from fastapi import Response
from starlette.types import Receive, Scope, Send

from rag_common.problem import Problem

KEEP_ALIVE_SECONDS = 10.0
_COMMENT = b": still waiting\n\n"


class Event(NamedTuple):
    """An event's name and its data."""

    name: str
    data: Mapping[str, Any]

    def encode(self) -> bytes:
        """The event on the wire; JSON has no bare newline, so one data line is enough."""
        data = orjson.dumps(self.data, option=orjson.OPT_SERIALIZE_NUMPY)
        return b"event: " + self.name.encode() + b"\ndata: " + data + b"\n\n"


async def disconnected(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """Sends `first`, then what `events` yields, a `Problem` as `error`; closes `events` at the end.

    While nothing comes it sends comments, so that nobody on the way takes the connection for dead.

    Starlette's StreamingResponse leaves a generator that is suspended at a yield to the garbage
    collector; an audit record cannot wait for that.
    """

    media_type = "text/event-stream"

    def __init__(
        self, first: Event, events: AsyncGenerator[Event, None], headers: Mapping[str, str]
    ) -> None:
        super().__init__(
            headers={"cache-control": "no-store", "x-accel-buffering": "no", **headers}
        )
        del self.headers["content-length"]
        self._first, self._events = first, events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the source ends or the client has gone."""
        async with aclosing(self._events):
            sending = asyncio.create_task(self._send(send))
            leaving = asyncio.create_task(disconnected(receive))
            try:
                await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await _stop(leaving)
                await _stop(sending)
        error = None if sending.cancelled() else sending.exception()
        if error and not isinstance(error, OSError):  # an OSError is the client leaving
            raise error

    async def _send(self, send: Send) -> None:
        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(head)
        await send(_body(self._first.encode(), more=True))
        try:
            while (event := await self._next(send)) is not None:
                await send(_body(event.encode(), more=True))
        except Problem as problem:  # the status line is already out
            await send(_body(Event("error", problem.body()).encode(), more=True))
        await send(_body(b"", more=False))

    async def _next(self, send: Send) -> Event | None:
        coming = asyncio.ensure_future(anext(self._events, None))
        try:
            while not (await asyncio.wait({coming}, timeout=KEEP_ALIVE_SECONDS))[0]:
                await send(_body(_COMMENT, more=True))
            return coming.result()
        finally:
            await _ended(coming)


async def _ended(task: "asyncio.Future[Any]") -> None:
    """Cancel it, and wait: a generator that still runs cannot be closed."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # seen: the caller has it, or has gone


async def _stop(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError, Exception):
        await task


def _body(data: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}
