"""Constant load: its rate, its failures, and that nothing of it outlives its block."""

import threading
import time

import httpx
import pytest

from conformance.gate import ProbeError
from conformance.gates.data import _traffic
from conformance.probes import waiting
from conformance.probes.load import Load, Outcome, rates
from conformance.tests._live_cluster import LiveContext
from conformance.tests._memory_cluster import MemoryCluster


def test_requests_are_made_at_the_declared_rate_and_end_with_the_block():
    begin = time.monotonic()
    with Load(lambda number: "", per_second=100, clients=4) as load:
        time.sleep(0.3)
    made = len(load.outcomes)
    assert 0 < made <= 100 * (time.monotonic() - begin) + 4  # a busy machine makes fewer
    time.sleep(0.05)
    assert len(load.outcomes) == made
    assert len({o.number for o in load.outcomes}) == made


def test_what_is_told_and_what_is_raised_are_failures():
    def call(number):
        if number % 2:
            raise httpx.ConnectError("refused")
        return "503: down"

    with Load(call, per_second=200, clients=2) as load:
        time.sleep(0.1)
    assert len(load.failed) == len(load.outcomes) > 2
    assert {r.partition(" x ")[2] for r in load.reasons()} == {
        "503: down",
        "ConnectError: refused",
    }


def test_a_request_that_has_begun_is_waited_for():
    ended = threading.Event()

    def call(number):
        time.sleep(0.2)
        ended.set()
        return ""

    with Load(call, per_second=10, clients=1):
        time.sleep(0.05)
    assert ended.is_set()


def test_a_request_that_never_ends_is_an_error(monkeypatch):
    monkeypatch.setattr("conformance.probes.load.JOIN_SECONDS", 0.05)
    hold = threading.Event()
    with (
        pytest.raises(ProbeError, match="did not end"),
        Load(lambda number: str(hold.wait(2)), per_second=10, clients=1),
    ):
        time.sleep(0.05)
    hold.set()


def test_rates_count_what_was_served_when_it_ended():
    outcomes = [Outcome(0, 0, 1), Outcome(1, 1, 5), Outcome(2, 2, 1, "failed")]
    assert rates(outcomes) == [(0, 0.2), (5, 0.2)]
    assert rates([]) == []


def test_traffic_asks_new_questions_through_the_gateway():
    asked = []

    def respond(request):
        asked.append(request)
        return httpx.Response(200, json={})

    context = LiveContext(MemoryCluster(), respond)
    with _traffic.retrievals(context, per_second=100, clients=2) as load:
        time.sleep(0.1)
    assert load.outcomes
    assert not load.failed
    assert len({r.content for r in asked}) == len(asked)


@pytest.mark.parametrize(
    ("response", "told"),
    [
        (httpx.Response(200, json={"x": 1}), "wrong"),
        (httpx.Response(503, text="no upstream"), "503: no upstream"),
        (httpx.Response(403, json={"rule": "override"}), ""),
        (httpx.Response(403, json={"detail": "who are you"}), "403"),
    ],
)
def test_what_counts_as_served(response, told):
    seen = _traffic.served(response, lambda body: "wrong")
    assert seen.startswith(told) if told else seen == ""


def test_a_load_beyond_the_tenants_limit_is_refused():
    context = LiveContext(MemoryCluster())
    with (
        pytest.raises(ProbeError, match="too few"),
        _traffic.retrievals(context, per_second=2000, clients=1),
    ):
        pass


def test_settled_tells_the_last_look(monkeypatch):
    monkeypatch.setattr(waiting, "POLL_SECONDS", 0)
    looks = iter([["a"], []])
    assert waiting.settled(lambda: next(looks), 5) == []
    assert waiting.settled(lambda: ["still"], 0) == ["still"]
