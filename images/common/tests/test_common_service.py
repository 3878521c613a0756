import json
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
import time

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry, Gauge
from pydantic import BaseModel

from rag_common.http import async_client, bind_socket
from rag_common.log import JsonFormatter
from rag_common.ops import install_ops
from rag_common.problem import MEDIA_TYPE, Problem, install_problem_handlers
from rag_common.telemetry import configure_tracing


class Body(BaseModel):
    text: str


@pytest.fixture
def app():
    app = FastAPI()
    install_problem_handlers(app)

    @app.post("/echo")
    async def echo(body: Body):
        if body.text == "problem":
            raise Problem(409, "Conflict", "why", headers={"Retry-After": "3"}, rule="r1")
        if body.text == "http":
            raise HTTPException(418, "teapot")
        if body.text == "crash":
            raise RuntimeError("secret detail")
        return body

    return app


@pytest.fixture
def client(app):
    return TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize(
    ("text", "status", "detail"),
    [("problem", 409, "why"), ("http", 418, "teapot"), ("crash", 500, "RuntimeError")],
)
def test_every_error_is_a_problem_document(client, text, status, detail):
    response = client.post("/echo", json={"text": text})
    assert response.status_code == status == response.json()["status"]
    assert response.headers["content-type"] == MEDIA_TYPE
    assert detail in response.json()["detail"]
    assert "secret detail" not in response.text


def test_a_problem_carries_headers_and_extra_members(client):
    response = client.post("/echo", json={"text": "problem"})
    assert response.headers["retry-after"] == "3"
    assert response.json()["rule"] == "r1"


def test_a_validation_error_names_the_field(client):
    response = client.post("/echo", json={})
    assert response.status_code == 422
    assert "body.text" in response.json()["detail"]


def test_ops_endpoints(app, client):
    reasons = iter([None, "store: down"])

    async def not_ready():
        return next(reasons)

    registry = CollectorRegistry()
    Gauge("things", "Things.", registry=registry).set(3)
    install_ops(app, registry, not_ready)
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").status_code == 200
    response = client.get("/readyz")
    assert (response.status_code, response.json()["detail"]) == (503, "store: down")
    assert "things 3.0" in client.get("/metrics").text


def test_a_log_line_is_json_with_its_extras():
    record = logging.makeLogRecord(
        {"name": "x", "levelname": "INFO", "msg": "hello %s", "args": ("é",), "tenant": "acme"}
    )
    try:
        raise ValueError("boom")
    except ValueError:
        record.exc_info = sys.exc_info()
    line = json.loads(JsonFormatter("svc").format(record))
    assert line["message"] == "hello é"
    assert (line["service"], line["tenant"], line["level"]) == ("svc", "acme", "info")
    assert "boom" in line["exception"]


@pytest.mark.parametrize("bind", ["", "8080", "localhost", "host:port"])
def test_a_bind_address_is_checked(bind):
    with pytest.raises(ValueError, match="host:port"):
        bind_socket(bind)


def test_a_unix_socket_is_private_and_replaces_a_stale_one(tmp_path):
    path = tmp_path / "s.sock"
    path.write_text("stale")
    with bind_socket(f"unix:{path}"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_ipv6_addresses_bind():
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with bind_socket("[::1]:0") as sock:
        assert sock.getsockname()[1] > 0


SERVER = """
import asyncio, sys
from fastapi import FastAPI
from rag_common.http import serve
from rag_common.log import configure_logging
configure_logging("test")
app = FastAPI()
@app.get("/slow")
async def slow():
    await asyncio.sleep(0.5)
    return {"done": True}
serve(app, sys.argv[1])
"""


async def test_serve_drains_open_requests_on_sigterm(tmp_path):
    bind = f"unix:{tmp_path / 'a.sock'}"
    server = subprocess.Popen([sys.executable, "-c", SERVER, bind])
    try:
        async with async_client(bind, timeout=5) as client:
            for _ in range(200):
                try:
                    await client.get("/nothing")
                    break
                except httpx.TransportError:
                    time.sleep(0.05)
            request = client.build_request("GET", "/slow")
            import asyncio

            task = asyncio.create_task(client.send(request))
            await asyncio.sleep(0.2)
            os.kill(server.pid, signal.SIGTERM)
            assert (await task).json() == {"done": True}
        # uvicorn raises the signal again once it has drained
        assert server.wait(10) in (0, -signal.SIGTERM)
    finally:
        server.kill()


async def test_a_tcp_client_has_its_base_url():
    async with async_client("http://127.0.0.1:9", timeout=1) as client:
        assert str(client.base_url) == "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("url", "proxied"),
    [
        ("unix:/run/a.sock", False),
        ("http://127.0.0.1:9", False),
        ("http://127.8.8.8:9", False),
        ("http://[::1]:9", False),
        ("http://localhost:9", False),
        ("http://llm.example:9", True),
        ("http://localhost.example:9", True),
    ],
)
async def test_internal_traffic_never_sees_a_proxy(monkeypatch, url, proxied):
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with async_client(url, timeout=1) as client:
        assert client.trust_env is proxied
        by_proxy = client._transport_for_url(client.base_url) is not client._transport
        assert by_proxy is proxied


def test_tracing_is_off_without_an_endpoint(monkeypatch):
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert configure_tracing(FastAPI(), "svc") is False


TRACED = """
import sys
from fastapi import FastAPI
from fastapi.testclient import TestClient
from opentelemetry import trace
from rag_common.telemetry import configure_tracing
app = FastAPI()
@app.get("/x")
async def x():
    return {}
assert configure_tracing(app, "svc")
TestClient(app).get("/x")
trace.get_tracer_provider().force_flush()
"""


def test_traces_are_sent_to_the_endpoint():
    import http.server
    import threading

    got = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            got.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
    subprocess.run([sys.executable, "-c", TRACED], env=environment, check=True, timeout=60)
    server.shutdown()
    assert got
    assert got[0][0] == "/v1/traces"
