"""What happens to an event stream's source when the client goes, at every moment it can go."""

import asyncio

import pytest

from rag_common.problem import Problem
from rag_retrieval.sse import Event, EventStream

SCOPE = {"type": "http"}


class Source:
    """A generator that tells how it ended."""

    def __init__(self, *, hangs=False, fails=None):
        self.hangs, self.fails, self.ended = hangs, fails, None

    async def events(self):
        try:
            yield Event("meta", {})
            if self.hangs:
                await asyncio.sleep(60)
            if self.fails:
                raise self.fails
            yield Event("done", {"text": "a\nb"})
            self.ended = "done"
        except GeneratorExit:
            self.ended = "closed"
            raise
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise


class Client:
    """The two ASGI callables."""

    def __init__(self, *, leaves_after=None, send_error=None, blocked=False):
        self.sent, self.gone = [], asyncio.Event()
        self.leaves_after, self.send_error, self.blocked = leaves_after, send_error, blocked
        if leaves_after == 0:
            self.gone.set()

    async def receive(self):
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sent.append(message)
        if len(self.sent) == self.leaves_after:
            self.gone.set()
            if self.blocked:
                await asyncio.sleep(60)
        if self.send_error:
            raise self.send_error

    @property
    def text(self):
        return b"".join(message.get("body", b"") for message in self.sent).decode()


async def run(source, client):
    events = source.events()
    first = await anext(events)
    await EventStream(first, events, {"x-request-id": "1"})(SCOPE, client.receive, client.send)


async def test_a_stream_to_its_end():
    source, client = Source(), Client()
    await run(source, client)
    assert source.ended == "done"
    assert client.text == 'event: meta\ndata: {}\n\nevent: done\ndata: {"text":"a\\nb"}\n\n'
    assert client.sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    assert b"content-length" not in dict(client.sent[0]["headers"])


@pytest.mark.parametrize(
    ("source", "client", "ended"),
    [
        ({"hangs": True}, {"leaves_after": 0}, "cancelled"),
        ({"hangs": True}, {"leaves_after": 2}, "cancelled"),
        ({}, {"leaves_after": 2, "blocked": True}, "closed"),
    ],
)
async def test_the_source_learns_that_the_client_has_gone(source, client, ended):
    made = Source(**source)
    await run(made, Client(**client))
    assert made.ended == ended


async def test_a_broken_connection_closes_the_source():
    source = Source()
    await run(source, Client(send_error=OSError("gone")))
    assert source.ended == "closed"


async def test_a_problem_is_the_last_event():
    client = Client()
    await run(Source(fails=Problem(502, "No", "because")), client)
    assert 'event: error\ndata: {"title":"No","status":502,"detail":"because"}' in client.text


async def test_the_server_stopping_closes_the_source():
    source = Source(hangs=True)
    task = asyncio.create_task(run(source, Client()))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.ended == "cancelled"
