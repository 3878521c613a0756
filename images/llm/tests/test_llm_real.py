import json
import os
import signal
import subprocess
import sys
import time

import httpx
import pytest

pytestmark = pytest.mark.network
MODEL = "qwen2.5-0.5b-instruct"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    socket = tmp_path_factory.mktemp("llm") / "llm.sock"
    environment = os.environ | {
        "BIND": f"unix:{socket}",
        "LLM_MODEL": MODEL,
        "LLM_CONTEXT_TOKENS": "1024",
    }
    process = subprocess.Popen([sys.executable, "-m", "rag_llm"], env=environment)
    try:
        transport = httpx.HTTPTransport(uds=str(socket))
        with httpx.Client(base_url="http://llm", transport=transport, timeout=120) as client:
            wait_until_ready(client, process)
            yield process, client
    finally:
        process.kill()
        process.wait()


def wait_until_ready(client, process):
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended while it started"
        try:
            if client.get("/readyz").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    pytest.fail("the server did not become ready")


def test_lists_its_model(server):
    assert server[1].get("/v1/models").json()["data"][0]["id"] == MODEL


def test_answers_by_a_json_schema_as_a_stream(server):
    schema = {
        "type": "object",
        "properties": {"hour": {"type": "integer"}},
        "required": ["hour"],
        "additionalProperties": False,
    }
    body = {
        "messages": [{"role": "user", "content": "The shop opens at 9. When does it open?"}],
        "max_tokens": 24,
        "temperature": 0,
        "stream": True,
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
    }
    text = ""
    with server[1].stream("POST", "/v1/chat/completions", json=body) as response:
        for line in response.iter_lines():
            if line.startswith("data: {"):
                choices = json.loads(line[6:])["choices"]
                text += (choices[0]["delta"].get("content") or "") if choices else ""
    assert isinstance(json.loads(text)["hour"], int)


def test_a_bad_request_is_a_problem(server):
    response = server[1].post("/v1/chat/completions", json={"messages": "x"})
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"


def test_sigterm_stops_it_cleanly(server):
    process, _ = server
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
