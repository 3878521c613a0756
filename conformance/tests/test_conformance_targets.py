"""Reaching the target: clients and credentials, logs, metrics, SQL, ingestion, processes."""

import http.server
import json
import socketserver
import subprocess
import sys
import threading
import time

import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from conformance.errors import TargetError
from conformance.gate import ProbeError
from conformance.targets import describe, logs, metrics, services
from conformance.targets.local import LocalTarget
from rag_common.tenancy import HEADER, TokenVerifier


class _Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        body = (
            '# TYPE x gauge\nx 2\ny{b="2",a="1"} 3\n'
            if self.path == "/metrics"
            else json.dumps({k.lower(): v for k, v in self.headers.items()})
        )
        self.wfile.write(body.encode())

    def address_string(self):
        return "local"

    def log_message(self, *args):
        pass


class _UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@pytest.fixture(scope="module")
def echo():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def guard(tmp_path):
    server = _UnixServer(str(tmp_path / "guard.sock"), _Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"unix:{tmp_path / 'guard.sock'}"
    server.shutdown()


@pytest.fixture
def fields(echo, guard, tmp_path):
    key = Ed25519PrivateKey.generate()
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    (tmp_path / "key.pub.pem").write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    (tmp_path / "api-key").write_text("secret-1\n")
    (tmp_path / "login.json").write_text('{"username": "u", "password": "p"}')
    names = ("gateway_url", "retrieval_url", "embedding_url", "llm_url")
    return {
        "environment": "local",
        **dict.fromkeys(names, echo),
        "guard_url": guard,
        "vector_db_url": echo.replace("http", "postgresql") + "/rag",
        "credentials": dict.fromkeys(("reader", "writer", "admin"), "login.json"),
        "api_keys": {"acme": "api-key"},
        "jwt_signing_key": "key.pem",
        "tenant_signing_key": "key.pem",
        "audit_dir": "audit",
        "flag_log": "flags.jsonl",
    }


@pytest.fixture
def load(fields, tmp_path):
    def make(**changes):
        data = {k: v for k, v in (fields | changes).items() if v is not None}
        (tmp_path / "target.json").write_text(json.dumps(data))
        return LocalTarget.load(tmp_path / "target.json")

    return make


@pytest.fixture
def target(load):
    return load()


def test_the_gateway_gets_the_tenants_key_read_at_each_request(target, tmp_path):
    with target.gateway("acme") as client:
        assert client.get("/").json()["x-api-key"] == "secret-1"
        (tmp_path / "api-key").write_text("secret-2\n")
        assert client.get("/").json()["x-api-key"] == "secret-2"
        assert client.get("/", headers={"x-api-key": "forged"}).json()["x-api-key"] == "forged"
    with target.gateway(None) as client:
        assert "x-api-key" not in client.get("/").json()


def test_a_tenant_without_a_key_comes_with_a_jwt(target, tmp_path):
    with target.gateway("conformance") as client:
        token = client.get("/").json()["authorization"].removeprefix("Bearer ")
    public = (tmp_path / "key.pub.pem").read_bytes()
    claims = jwt.decode(
        token, public, algorithms=["EdDSA"], audience="rag-gateway", issuer="rag-local"
    )
    assert claims["tenant"] == "conformance"


def test_claims_of_a_jwt_can_be_overridden_and_removed(target):
    token = target.jwt("acme", exp=1, tenant=None, admin=True)
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["exp"], claims["admin"], "tenant" in claims) == (1, True, False)


async def test_retrieval_gets_a_fresh_tenant_token_for_each_request(target, tmp_path):
    verifier = TokenVerifier(tmp_path / "key.pub.pem")
    with target.retrieval("acme") as client:
        tokens = [client.get("/").json()[HEADER] for _ in range(2)]
    assert {verifier.verify(t).tenant for t in tokens} == {"acme"}
    assert len({verifier.verify(t).request_id for t in tokens}) == 2
    async with target.retrieval_async("acme") as client, target.gateway_async("acme") as edge:
        assert verifier.verify((await client.get("/")).json()[HEADER]).tenant == "acme"
        assert (await edge.get("/")).json()["x-api-key"] == "secret-1"


def test_guard_embedding_and_llm_are_reached(target):
    for make in (target.guard, target.embedding, target.llm):
        with make() as client:
            assert client.get("/").status_code == 200


def test_metrics_are_flat(target):
    assert target.metrics("retrieval") == {"x": 2.0, 'y{a="1",b="2"}': 3.0}
    with pytest.raises(ProbeError, match="no nothing_url"):
        target.metrics("nothing")
    assert metrics.parse("") == {}


@pytest.mark.parametrize(
    ("changes", "call", "told"),
    [
        ({"llm_url": None}, lambda t: t.llm(), "llm_url"),
        ({"jwt_signing_key": "none.pem"}, lambda t: t.jwt("acme"), "jwt_signing_key"),
        ({"tenant_signing_key": None}, lambda t: t.tenant_token("acme"), "tenant_signing_key"),
        ({"api_keys": {"acme": "none"}}, lambda t: t.api_key("acme"), "No such file"),
        ({}, lambda t: t.api_key("nobody"), r"api_keys\.nobody"),
        ({"credentials": {}}, lambda t: t.sql("reader"), r"credentials\.reader"),
        ({"credentials": {}}, lambda t: t.store_admin(), r"credentials\.admin"),
        ({"credentials": {"reader": "none"}}, lambda t: t.sql("reader"), "SQL as reader"),
        ({"flag_log": None}, lambda t: t.flagged(), "names no flag log"),
        ({}, lambda t: t.flagged(), "No such file"),
        ({}, lambda t: t.access_records(), "names no access log"),
        ({}, lambda t: t.audit_records(), "no such folder"),
        ({}, lambda t: t.schedule(), "declares no schedule"),
        ({}, lambda t: t.rate_limit("acme"), r"no rate_limits\.acme"),
        ({"schedule": {"tenant": "acme"}}, None, "schedule"),
        ({"rate_limits": {"acme": {"burst": 0}}}, None, "rate_limits"),
        ({}, lambda t: t.processes.names(), "names no supervisor"),
        ({"supervisor": "http://127.0.0.1:1"}, None, "cannot be reached"),
        ({"retrieval_url": "http://127.0.0.1:1"}, None, "retrieval_url"),
        ({"guard_url": None}, None, "guard_url"),
        ({"guard_url": ""}, None, "guard_url"),
    ],
)
def test_what_is_missing_is_told(load, changes, call, told):
    with pytest.raises((ProbeError, TargetError), match=told):
        call(load(**changes))


def test_a_scheduled_document_is_there_inside_the_block(load, tmp_path):
    schedule = {"tenant": "acme", "source": str(tmp_path / "source"), "every_seconds": 30}
    target = load(schedule=schedule)
    with pytest.raises(ProbeError, match="no folder"), target.scheduled_document("a.md", "x"):
        pass
    (tmp_path / "source").mkdir()
    with target.scheduled_document("a.md", "text"):
        assert (tmp_path / "source" / "a.md").read_text() == "text"
    assert not list((tmp_path / "source").iterdir())


def test_sql_needs_postgresql(load, echo):
    with pytest.raises(ProbeError, match="SQL needs PostgreSQL"):
        load(vector_db_url=echo.replace("http", "qdrant")).sql("reader")


def test_sql_carries_the_login(target, monkeypatch):
    seen = {}
    monkeypatch.setattr(psycopg, "connect", lambda url, **options: seen.update(options, url=url))
    target.sql("reader")
    assert (seen["user"], seen["password"], seen["autocommit"]) == ("u", "p", True)


def test_the_store_is_opened_by_its_url(target):
    assert type(target.store("reader")).__name__ == "PgvectorStore"
    assert type(target.store_admin()).__name__ == "PgvectorAdmin"


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_a_target_file_that_is_none_is_told(tmp_path, text):
    if text is not None:
        (tmp_path / "t.json").write_text(text)
    with pytest.raises(TargetError, match=r"t\.json"):
        describe.read(tmp_path / "t.json")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://host:81/x", ("host", 81)),
        ("https://host", ("host", 443)),
        ("qdrants://host", ("host", 6333)),
        ("unix:/run/x.sock", "/run/x.sock"),
        ("unix:///run/x.sock", "/run/x.sock"),
        ("postgresql:///rag?host=/run/pg", "/run/pg/.s.PGSQL.5432"),
        ("postgresql:///rag?host=/run/pg&port=5433", "/run/pg/.s.PGSQL.5433"),
    ],
)
def test_addresses(url, address):
    assert describe.addresses(url) == address


def test_logs_leave_the_line_that_is_being_written(tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_text('{"a": 1}\n\n{"a": 2}\n{"a"')
    assert logs.read(file, "log") == [{"a": 1}, {"a": 2}]
    file.write_text('{"a": 1}\nbroken\n')
    with pytest.raises(ProbeError, match=r"x\.jsonl:2: not JSON"):
        logs.read(file, "log")


def test_the_audit_spool_is_read_in_order(target, tmp_path):
    (tmp_path / "audit").mkdir()
    for name, number in (("audit-2.jsonl", 2), ("audit-1.jsonl", 1), ("other", 3)):
        (tmp_path / "audit" / name).write_text(f'{{"n": {number}}}\n')
    assert target.audit_records() == [{"n": 1}, {"n": 2}]


def ingest_program(tmp_path, monkeypatch, body):
    program = tmp_path / "rag-ingest"
    program.write_text(f"#!{sys.executable}\nimport json, os, sys\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setattr(services, "_ingest", lambda: str(program))


def test_ingestion_runs_the_command_with_the_targets_settings(target, tmp_path, monkeypatch):
    body = (
        "keys = ('EMBEDDING_URL', 'VECTOR_DB_URL', 'VECTOR_DB_CREDENTIALS_FILE', 'EXTRA')\n"
        "json.dump([sys.argv[1:4], [os.environ[k] for k in keys]], open(sys.argv[-1], 'w'))"
    )
    ingest_program(tmp_path, monkeypatch, body)
    arguments, settings = target.ingest(tmp_path, "acme", EXTRA="1")
    assert arguments == [str(tmp_path), "--tenant", "acme"]
    assert settings[2:] == [str(tmp_path / "login.json"), "1"]


def test_another_sync_of_the_index_is_waited_for(target, tmp_path, monkeypatch):
    body = (
        "first = not os.path.exists(os.environ['MARK'])\n"
        "open(os.environ['MARK'], 'a').write('.')\n"
        "json.dump({'chunks': 1}, open(sys.argv[-1], 'w'))\n"
        "sys.exit(3 if first else 0)"
    )
    ingest_program(tmp_path, monkeypatch, body)
    monkeypatch.setattr(services, "_AGAIN_SECONDS", 0)
    mark = tmp_path / "mark"
    assert target.ingest(tmp_path, "acme", MARK=str(mark)) == {"chunks": 1}
    assert mark.read_text() == ".."
    monkeypatch.setattr(services, "HELD_SECONDS", 0)
    mark.unlink()
    with pytest.raises(ProbeError, match="exited with 3"):
        target.ingest(tmp_path, "acme", MARK=str(mark))


def test_a_failed_ingestion_is_told_with_its_last_lines(target, tmp_path, monkeypatch):
    ingest_program(tmp_path, monkeypatch, "sys.exit('the store is down')")
    with pytest.raises(ProbeError, match="exited with 1: the store is down"):
        target.ingest(tmp_path, "acme")
    monkeypatch.setattr(services, "_ingest", lambda: str(tmp_path / "none"))
    with pytest.raises(ProbeError, match="No such file"):
        target.ingest(tmp_path, "acme")


def test_ingestion_is_found_beside_python_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProbeError, match="rag-ingest is not installed"):
        services._ingest()
    (tmp_path / "rag-ingest").touch(mode=0o755)
    assert services._ingest() == str(tmp_path / "rag-ingest")


SERVER = """
import http.server, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"original")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), H).serve_forever()
"""


@pytest.fixture
def supervised(load, tmp_path):
    """A real supervisord that keeps a small HTTP server as program `embedding`."""
    from conformance.children import free_url

    url = free_url()
    (tmp_path / "server.py").write_text(SERVER)
    (tmp_path / "s.conf").write_text(
        f"[unix_http_server]\nfile={tmp_path}/s.sock\n"
        f"[supervisord]\nlogfile={tmp_path}/s.log\npidfile={tmp_path}/s.pid\n"
        "[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
        f"[program:embedding]\ncommand={sys.executable} server.py {url.rpartition(':')[2]}\n"
        f"directory={tmp_path}\nautostart=false\nstartsecs=0\n"
    )
    command = [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(tmp_path / "s.conf")]
    daemon = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (tmp_path / "s.sock").exists():
        assert daemon.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    target = load(supervisor=f"unix:{tmp_path}/s.sock")
    object.__setattr__(target.description, "embedding_url", url)
    yield target
    daemon.terminate()
    daemon.wait(30)


def body(target):
    with target.embedding() as client:
        return client.get("/").text


def test_processes_are_stopped_started_and_replaced(supervised):
    processes = supervised.processes
    assert processes.names() == ["embedding"]
    processes.start("embedding")
    first = processes.pid("embedding")
    assert body(supervised) == "original"
    processes.restart("embedding")
    assert processes.pid("embedding") != first

    with processes.stopped("embedding"), pytest.raises(ProbeError, match="does not run"):
        processes.pid("embedding")
    assert body(supervised) == "original"

    async def other(_):
        return PlainTextResponse("stand-in")

    application = Starlette(routes=[Route("/{path:path}", other)])
    with pytest.raises(ZeroDivisionError), processes.replaced("embedding", application):
        assert body(supervised) == "stand-in"
        raise ZeroDivisionError
    assert body(supervised) == "original"

    with pytest.raises(ProbeError, match="BAD_NAME"):
        processes.stop("nobody")
    with pytest.raises(ProbeError, match="no endpoint"), processes.replaced("nobody", application):
        pass
