"""A model that is scaled to zero: requests wait for it in the bounded queue, and are answered."""

import asyncio
import threading
import time

import httpx
import pytest

from rag_common.tenancy import HEADER
from rag_retrieval import sse
from rag_retrieval import start as starting
from rag_retrieval.answer import LLMUnavailableError
from rag_retrieval.metrics import Metrics
from rag_retrieval.start import ModelStart

DEPTH = "rag_inference_queue_depth"


def wait_for(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


@pytest.fixture
def asked():
    """Asks in the background; the answers that have come."""
    answers, threads = [], []

    def ask(service, times=1, **body):
        for _ in range(times):
            thread = threading.Thread(target=lambda: answers.append(service.answer(**body)))
            threads.append(thread)
            thread.start()

    ask.answers = answers
    ask.join = lambda: [thread.join(20) for thread in threads]
    yield ask
    ask.join()


def test_the_first_request_is_held_and_answered_though_its_deadline_is_shorter(
    start, store, peers, asked
):
    peers.llm.asleep = True
    service = start(store, llm_cold_start_seconds=20, deadline_answer_seconds=1.5)
    asked(service)
    wait_for(lambda: service.metric(DEPTH) == 1)  # what wakes the model
    time.sleep(2.5)
    assert asked.answers == [] and peers.llm.calls == []
    peers.llm.asleep = False
    asked.join()
    assert asked.answers[0].json()["status"] == "answered"
    assert service.metric("rag_llm_start_seconds_count") == 1
    assert service.metric("rag_llm_start_seconds_sum") > 2
    assert service.metric(DEPTH) == 0


def test_all_wait_on_one_probe_and_beyond_the_bound_is_a_503(start, store, peers, asked):
    peers.llm.asleep = True
    service = start(store, llm_cold_start_seconds=20, llm_parallel=1, llm_max_queue=2)
    asked(service, times=3)
    wait_for(lambda: service.metric(DEPTH) == 3)
    refused = service.answer()
    assert (refused.status_code, refused.json()["title"]) == (503, "Overloaded")
    assert int(refused.headers["retry-after"]) > 0
    before = peers.llm.probes
    time.sleep(1.6)
    assert 2 <= peers.llm.probes - before <= 5
    peers.llm.asleep = False
    asked.join()
    assert [a.status_code for a in asked.answers] == [200, 200, 200]


def test_a_model_that_never_starts_is_a_503(start, store, run):
    service = start(store, llm_url=f"unix:{run}/nobody", llm_cold_start_seconds=1)
    began, answer = time.monotonic(), service.answer()
    assert answer.status_code == 503 and answer.headers["retry-after"]
    assert "did not start within 1 s" in answer.json()["detail"]
    assert time.monotonic() - began >= 1
    assert service.metric(DEPTH) == 0
    assert service.records("completion")[0]["status"] == "failed"


def test_a_stream_begins_at_once_and_is_kept_alive(start, store, peers, monkeypatch):
    monkeypatch.setattr(sse, "KEEP_ALIVE_SECONDS", 0.2)
    peers.llm.asleep = True
    service = start(store, llm_cold_start_seconds=20)
    headers, body = {HEADER: service.token("acme")}, {"question": "How many days of paid leave?"}
    with service.client.stream(
        "POST", "/v1/answer", json=body | {"stream": True}, headers=headers
    ) as answer:
        pieces = answer.iter_text()
        assert next(pieces).startswith("event: meta")
        assert [next(pieces) for _ in range(3)] == [": still waiting\n\n"] * 3
        peers.llm.asleep = False
        assert "event: done" in "".join(pieces)


def test_who_leaves_while_held_is_not_counted_any_more(start, store, peers):
    peers.llm.asleep = True
    service = start(store, llm_cold_start_seconds=20)
    with (
        httpx.Client(
            base_url="http://rag", transport=httpx.HTTPTransport(uds=service.socket), timeout=0.7
        ) as client,
        pytest.raises(httpx.ReadTimeout),
    ):
        body = {"question": "How many days of paid leave do employees receive?"}
        client.post("/v1/answer", json=body, headers={HEADER: service.token("acme")})
    wait_for(lambda: service.metric(DEPTH) == 0)
    wait_for(lambda: service.records("completion"))
    assert service.records("completion")[0]["status"] == "aborted"
    probes = peers.llm.probes
    time.sleep(1.2)
    assert peers.llm.probes == probes  # nobody waits, nobody asks
    peers.llm.asleep = False
    assert service.answer().status_code == 200


def test_a_model_that_has_just_answered_is_not_probed(start, store, peers):
    service = start(store, llm_cold_start_seconds=20)
    assert [service.answer().status_code for _ in range(3)] == [200] * 3
    assert peers.llm.probes == 1
    assert service.metric("rag_llm_start_seconds_count") == 0


def test_without_a_cold_start_nothing_is_held(start, store, peers):
    peers.llm.asleep = True
    answer = start(store, deadline_answer_seconds=1.2).answer()
    assert answer.status_code == 503 and peers.llm.probes == 0


class Broken:
    last_seen = None

    async def answers(self):
        raise OSError("no such key file")


def test_a_probe_that_cannot_be_made_ends_the_wait():
    async def run():
        await ModelStart(Broken(), 5, Metrics().llm_start).wait()

    with pytest.raises(OSError, match="key file"):
        asyncio.run(run())


def test_a_new_wait_after_all_have_left_probes_anew(monkeypatch):
    monkeypatch.setattr(starting, "PROBE_SECONDS", 0.01)

    class Asleep(Broken):
        async def answers(self):
            return False

    async def run():
        start = ModelStart(Asleep(), 0.05, Metrics().llm_start)
        for _ in range(3):
            with pytest.raises(LLMUnavailableError, match=r"0\.05 s"):
                await start.wait()

    asyncio.run(run())
