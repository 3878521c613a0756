"""The process: a real server on a Unix socket, clients that go away, and starts that fail."""

import os
import signal
import subprocess
import sys
import time

import httpx
import pytest

from rag_embedding import __main__ as main_module
from rag_embedding import prepare
from rag_embedding.app import create_app
from rag_embedding.settings import Settings

COMMAND = [sys.executable, "-m", "rag_embedding"]


def wait_ready(client, process):
    for _ in range(600):
        assert process.poll() is None, process.stderr.read()
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("not ready in a minute")


def test_the_server_answers_forgets_the_absent_and_stops(tmp_path):
    path = str(tmp_path / "e.sock")
    environment = {**os.environ, "BIND": f"unix:{path}", "EMBEDDING_THREADS": "1"}
    process = subprocess.Popen(COMMAND, env=environment, stderr=subprocess.PIPE, text=True)
    transport = httpx.HTTPTransport(uds=path)
    try:
        with httpx.Client(transport=transport, base_url="http://e", timeout=30) as client:
            wait_ready(client, process)
            assert client.post("/v1/embeddings", json={"input": "hi"}).status_code == 200
            bulk = {"input": ["long text " * 200] * 2000}
            with pytest.raises(httpx.ReadTimeout):
                client.post("/v1/embeddings", json=bulk, timeout=2)
            for _ in range(100):
                if "embedding_queue_depth 0.0" in client.get("/metrics").text:
                    break
                time.sleep(0.1)
            metrics = client.get("/metrics").text
        assert "embedding_queue_depth 0.0" in metrics
        assert 'embedding_requests_total{status="499"} 1.0' in metrics
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode in (0, -signal.SIGTERM)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("EMBEDDING_MODEL", "nope", "no asset 'nope'"),
        ("EMBEDDING_THREADS", "0", "EMBEDDING_THREADS"),
        ("EMBEDDING_BACKEND", "magic", "EMBEDDING_BACKEND"),
    ],
)
def test_a_start_that_cannot_be_says_why(monkeypatch, capsys, name, value, says):
    monkeypatch.setenv(name, value)
    assert main_module.main() == 2
    assert says in capsys.readouterr().err


def test_main_serves_where_it_is_told(monkeypatch, slow):
    served = []
    monkeypatch.setenv("BIND", "127.0.0.1:0")
    monkeypatch.setattr(main_module, "open_backend", lambda _: slow())
    monkeypatch.setattr(main_module, "serve", lambda app, bind: served.append((app.title, bind)))
    assert main_module.main() == 0
    assert served == [("RAG embedding", "127.0.0.1:0")]


async def test_it_is_not_ready_before_it_runs(slow):
    app = create_app(slow(), Settings())
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://e") as client:
        assert (await client.get("/readyz")).status_code == 503


def test_a_cache_is_prepared_and_then_only_read(tmp_path, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(prepare, "open_backend", lambda settings: seen.append(settings.model))
    assert prepare.main() == 0
    assert seen == ["all-minilm-l6-v2"]
    monkeypatch.setenv("EMBEDDING_PRECISION", "int4")
    assert prepare.main() == 2
    assert "EMBEDDING_PRECISION" in capsys.readouterr().err
