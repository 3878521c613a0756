import json
from collections.abc import AsyncIterator

import httpx
import pytest

from rag_llm.app import create_app


def engine(handler):
    return httpx.AsyncClient(
        base_url="http://engine", transport=httpx.MockTransport(handler), timeout=5
    )


@pytest.fixture
def ask():
    async def call(handler, method, path, **options):
        app = create_app(engine(handler))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(base_url="http://llm", transport=transport) as client:
            return await client.request(method, path, **options)

    return call


def healthy(request: httpx.Request) -> httpx.Response:
    if request.url.path == "/health":
        return httpx.Response(200, json={"status": "ok"})
    if request.url.path == "/metrics":
        return httpx.Response(200, text="llamacpp:prompt_tokens_total 3\n")
    if request.url.path == "/v1/models":
        return httpx.Response(200, json={"data": [{"id": "m"}]})
    return httpx.Response(200, json={"choices": [], "asked": json.loads(request.content)})


async def test_passes_a_completion_through(ask):
    response = await ask(healthy, "POST", "/v1/chat/completions", json={"messages": []})
    assert response.status_code == 200
    assert response.json()["asked"] == {"messages": []}


async def test_lists_models(ask):
    response = await ask(healthy, "GET", "/v1/models")
    assert response.json()["data"][0]["id"] == "m"


@pytest.mark.parametrize("path", ["/health", "/readyz", "/healthz"])
async def test_operational_endpoints(ask, path):
    assert (await ask(healthy, "GET", path)).status_code == 200


async def test_metrics_are_the_engines_and_our_own(ask):
    text = (await ask(healthy, "GET", "/metrics")).text
    assert "llamacpp:prompt_tokens_total 3" in text
    assert "llm_open_requests 0.0" in text


async def test_streams_events_and_counts_them():
    async def events() -> AsyncIterator[bytes]:
        yield b'data: {"choices": []}\n\n'
        yield b"data: [DONE]\n\n"

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/metrics":
            return httpx.Response(200, text="")
        return httpx.Response(200, content=events(), headers={"content-type": "text/event-stream"})

    transport = httpx.ASGITransport(create_app(engine(handler)))
    async with httpx.AsyncClient(base_url="http://llm", transport=transport) as client:
        response = await client.post("/v1/chat/completions", json={"stream": True})
        metrics = (await client.get("/metrics")).text
    assert response.text.endswith("data: [DONE]\n\n")
    assert 'llm_requests_total{status="200"} 1.0' in metrics
    assert "llm_open_requests 0.0" in metrics


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (json.dumps({"error": {"message": "no messages"}}), "no messages"),
        ("not json", "not json"),
        ("[]", "[]"),
    ],
)
async def test_the_engines_errors_become_problems(ask, body, detail):
    response = await ask(
        lambda _: httpx.Response(400, text=body), "POST", "/v1/chat/completions", json={}
    )
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"] == detail


@pytest.mark.parametrize(
    ("failure", "status"), [(httpx.ReadTimeout("slow"), 504), (httpx.ConnectError("gone"), 503)]
)
async def test_an_engine_that_is_gone_is_a_problem(ask, failure, status):
    def handler(request: httpx.Request) -> httpx.Response:
        raise failure

    response = await ask(handler, "POST", "/v1/chat/completions", json={})
    assert response.status_code == status
    assert (await ask(handler, "GET", "/readyz")).status_code == 503
    assert (await ask(handler, "GET", "/health")).status_code == 503
    assert "llm_open_requests 0.0" in (await ask(handler, "GET", "/metrics")).text


async def test_an_engine_that_is_loading_is_not_ready(ask):
    response = await ask(lambda _: httpx.Response(503), "GET", "/readyz")
    assert response.status_code == 503
    assert "503" in response.json()["detail"]
