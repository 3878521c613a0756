"""load-500-users: a real run of locust against a small server, and what counts of it."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from conformance.gate import ProbeError
from conformance.gates.intelligence import load_500_users
from conformance.probes import users
from conformance.probes.users import Request, Seen
from conformance.tests._live_cluster import LiveContext
from conformance.tests._memory_cluster import MemoryCluster, values

KEY = "key-of-the-tenant"


class _Gateway(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        allowed = self.headers["x-api-key"] == KEY
        status = self.server.broken or (200 if allowed else 401)
        self.server.asked.append((self.path, json.loads(body)))
        time.sleep(self.server.seconds if self.path == load_500_users.ANSWER else 0)
        self.send_response(status)
        body = b'{"rule": "patterns"}' if status == 403 else b"{}"
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def gateway():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Gateway)
    server.broken, server.asked, server.seconds = 0, [], 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def context(server, **parameters):
    made = LiveContext(
        MemoryCluster(),
        **{
            "users": 12,
            "answering_users": 2,
            "spawn_rate": 12,
            "think_seconds": 0.3,
            "connections": 4,
            "workers": 2,
            "answer_seconds": 5,
            "hold_seconds": 3,
            "settle_seconds": 7,
            **parameters,
        },
    )

    made.target.outside = lambda: f"http://127.0.0.1:{server.server_port}"
    made.target.api_key = lambda tenant: KEY
    return made


def test_users_are_served_and_counted(gateway):
    made = context(gateway)
    seen = load_500_users.measure(made)
    told = values(seen)
    assert (told["users"], told["answering_users"]) == (12, 2)
    assert (told["failed_share"], told["refused_share"]) == (0, 0)
    assert told["requests_per_second"] > 5
    assert 0 < told["p95"] < 3 > told["answer_p95"] > 0
    assert {path for path, _ in gateway.asked} == {"/v1/retrieve", "/v1/answer"}
    assert KEY not in json.dumps([*map(str, made.evidence.files.values())])
    assert seen.plots[0].title == "Requests under load"
    assert "10 users asked for passages, 2 for answers" in seen.notes[0]


def test_answers_of_the_autoscalers_time_count(gateway):
    told = values(load_500_users.measure(context(gateway, hold_seconds=1, think_seconds=3)))
    assert 0 < told["answer_p95"] < 3


def test_users_that_are_refused_are_failures_without_an_end(gateway):
    gateway.broken = 503
    seen = load_500_users.measure(context(gateway, answering_users=0))
    told = values(seen)
    assert told["failed_share"] == 1
    assert told["requests_per_second"] == 0
    assert told["p95"] == float("inf")
    assert "answer_p95" not in told
    assert any("503" in note for note in seen.notes)


def test_how_long_a_user_waits_is_what_was_declared(gateway):
    gateway.seconds = 1
    told = values(load_500_users.measure(context(gateway, answer_seconds=0.3)))
    assert told["p95"] == told["answer_p95"] == float("inf")


def test_what_the_guard_refuses_is_counted_and_not_served(gateway):
    gateway.broken = 403
    with pytest.raises(ProbeError, match="nothing"):  # no question was let through to be timed
        load_500_users.measure(context(gateway))
    seen = Seen([Request(t, "/", 1, users.REFUSED if t % 2 else "") for t in range(60)], [])
    assert load_500_users._slowest(seen.requests, 0, 60).value == 0.5


def test_a_gateway_that_only_a_door_leads_to_is_an_error(gateway):
    made = context(gateway)
    made.target.outside = lambda: ""
    with pytest.raises(ProbeError, match="gateway_url"):
        load_500_users.measure(made)


def test_locust_that_breaks_is_an_error_with_its_last_words(gateway, monkeypatch, tmp_path):
    wrong = tmp_path / "locustfile.py"
    wrong.write_text("raise RuntimeError('no users today')")
    monkeypatch.setattr(users, "LOCUSTFILE", wrong)
    with pytest.raises(ProbeError, match="no users today"):
        load_500_users.measure(context(gateway))


def test_users_that_never_were_all_there_are_an_error():
    seen = Seen([Request(5, "/", 1, "")], [(t, 400) for t in range(10)])
    with pytest.raises(ProbeError, match="at most 400"):
        seen.held(500, 5)
    with pytest.raises(ProbeError, match="at most 0"):
        Seen([], []).held(500, 5)
    late = Seen([], [(t, 500 if t > 7 else 1) for t in range(10)])
    with pytest.raises(ProbeError, match="not there for 5 s"):
        late.held(500, 5)
    assert Seen([], [(t, 500) for t in range(10)]).held(500, 5) == (4, 9)


def test_the_slowest_minute_counts():
    held = [Request(t / 10, "/", 0.1, "" if t < 1200 else "late") for t in range(1800)]
    slowest = load_500_users._slowest(held, 0, 180)
    assert (slowest.value, slowest.n) == (0, 3)
    assert load_500_users._slowest(held[:1200], 0, 120).value == pytest.approx(10)
