import json
import time

import httpx
import pytest

from rag_retrieval.answer import (
    Dialect,
    LLMClient,
    LLMError,
    LLMSettings,
    LLMTimeoutError,
    LLMUnavailableError,
)
from rag_retrieval.answer import llm as module
from rag_retrieval.answer.llm import Completion, completions_path

SCHEMA = {"type": "object"}


def event(text="", **more):
    return "data: " + json.dumps({"choices": [{"delta": {"content": text}}], **more}) + "\n\n"


def client_of(handler, **settings):
    settings = LLMSettings("http://llm", "model", **settings)
    transport = httpx.MockTransport(handler)
    return LLMClient(settings, httpx.AsyncClient(base_url="http://llm", transport=transport))


async def collect(client, seconds=5.0):
    completion = Completion()
    deadline = time.monotonic() + seconds
    pieces = [p async for p in client.stream([], SCHEMA, deadline, completion)]
    await client.close()
    return pieces, completion


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(module, "_FIRST_WAIT_SECONDS", 0.01)


async def test_streams_text_model_usage_and_finish_reason():
    body = (
        ": a comment\n\n"
        + event("Hel", model="served")
        + event("lo")
        + 'data: {"choices": [{"delta": {}, "finish_reason": "length"}]}\n\n'
        + 'data: {"choices": [], "usage": {"prompt_tokens": 7, "details": {}}}\n\n'
        + "data: [DONE]\n\n"
    )
    pieces, completion = await collect(client_of(lambda _: httpx.Response(200, text=body)))
    assert pieces == ["Hel", "lo"]
    assert (completion.model, completion.finish_reason) == ("served", "length")
    assert completion.usage == {"prompt_tokens": 7}
    assert completion.first_token_seconds is not None


async def test_waits_for_a_server_that_is_starting():
    answers = [httpx.Response(503), httpx.ConnectError("refused"), httpx.Response(429)]

    def handler(_):
        if not answers:
            return httpx.Response(200, text=event("up"))
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert (await collect(client_of(handler)))[0] == ["up"]


@pytest.mark.parametrize(
    "failure",
    [
        httpx.Response(503, text="loading"),
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("slow"),
        httpx.ReadError("reset"),
    ],
)
async def test_a_server_that_stays_away_is_unavailable(failure):
    def handler(_):
        if isinstance(failure, Exception):
            raise failure
        return failure

    with pytest.raises(LLMUnavailableError):
        await collect(client_of(handler), seconds=0.05)


@pytest.mark.parametrize("status", [400, 401, 404, 422])
async def test_a_refused_request_is_not_tried_again(status):
    calls = []

    def handler(request):
        calls.append(request)
        return httpx.Response(status, text="key sk-1 is wrong")

    with pytest.raises(LLMError, match=f"answered {status}$") as caught:
        await collect(client_of(handler))
    assert not isinstance(caught.value, LLMUnavailableError)
    assert len(calls) == 1


async def test_silence_until_the_deadline_is_a_timeout():
    def handler(_):
        raise httpx.ReadTimeout("silence")

    with pytest.raises(LLMTimeoutError):
        await collect(client_of(handler))


async def test_a_deadline_that_has_passed_asks_nobody():
    def handler(_):
        raise AssertionError("asked")

    with pytest.raises(LLMTimeoutError):
        await collect(client_of(handler), seconds=-1)


async def test_a_stream_that_stalls_ends_at_the_deadline():
    async def stalling():
        yield event("one").encode()
        await module.asyncio.sleep(30)

    client = client_of(lambda _: httpx.Response(200, content=stalling()))
    got = []
    with pytest.raises(LLMTimeoutError):
        async for piece in client.stream([], SCHEMA, time.monotonic() + 0.2, Completion()):
            got.append(piece)
    assert got == ["one"]


async def test_a_stream_that_breaks_is_an_error():
    async def breaking():
        yield event("one").encode()
        raise httpx.RemoteProtocolError("cut")

    with pytest.raises(LLMError, match="broke off"):
        await collect(client_of(lambda _: httpx.Response(200, content=breaking())))


@pytest.mark.parametrize(
    "line", ["data: {not json", "data: 5", 'data: {"choices": [5]}', 'data: {"error": "full"}']
)
async def test_a_malformed_stream_is_an_error(line):
    with pytest.raises(LLMError) as caught:
        await collect(client_of(lambda _: httpx.Response(200, text=f"{line}\n\n")))
    assert "full" not in str(caught.value) and "not json" not in str(caught.value)


async def test_the_api_key_is_read_at_each_use(tmp_path):
    key, seen = tmp_path / "key", []

    def handler(request):
        seen.append(request.headers["authorization"])
        return httpx.Response(200, text=event("x"))

    client = client_of(handler, api_key_file=key)
    for value in ("first", "second"):
        key.write_text(value + "\n")
        async for _ in client.stream([], SCHEMA, time.monotonic() + 5, Completion()):
            pass
    assert seen == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://llm:8082", "v1/chat/completions"),
        ("http://llm:8082/", "v1/chat/completions"),
        ("unix:/run/llm.sock", "v1/chat/completions"),
        ("https://api.openai.com/v1", "chat/completions"),
        ("https://host/v1beta/openai/", "chat/completions"),
    ],
)
def test_any_base_url(url, path):
    assert completions_path(url) == path


@pytest.mark.parametrize("dialect", list(Dialect))
def test_each_dialects_request(dialect):
    body = LLMSettings("http://llm", "m", dialect=dialect, extra={"top_p": 1}).request([], SCHEMA)
    limit = "max_completion_tokens" if dialect is Dialect.OPENAI else "max_tokens"
    assert body[limit] == 160
    assert body["top_p"] == 1
    assert ("cache_prompt" in body) is (dialect is Dialect.LLAMA_CPP)
    if dialect is Dialect.PLAIN:
        assert "response_format" not in body
    elif dialect is Dialect.TGI:
        assert body["response_format"] == {"type": "json_object", "value": SCHEMA}
    else:
        assert body["response_format"]["json_schema"]["schema"] == SCHEMA
