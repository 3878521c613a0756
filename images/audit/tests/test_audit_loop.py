"""Nothing is committed before it is in the index, and nothing stops the log for good."""

import json
import threading

import httpx
import pytest
from confluent_kafka import KafkaError, KafkaException
from fastapi.testclient import TestClient

from rag_audit.app import Running, create_app

from .conftest import Log, Message, record


def lines(*records):
    return [json.dumps(r).encode() for r in records]


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(name, labels)


def test_a_batch_is_indexed_then_committed(indexer_of, index, metrics):
    log = Log(*lines(record("r1"), record("r1", "completion"), record("r2")))
    indexer_of(log).step()
    assert len(index.documents) == 3 and log.done == 3
    assert value(metrics, "audit_indexed_total", event="intent") == 2
    assert value(metrics, "audit_delay_seconds_count") == 3


def test_a_record_that_is_delivered_twice_is_one_document(indexer_of, index, metrics):
    log = Log(*lines(record("r1")) * 2)
    indexer_of(log).step()
    assert len(index.documents) == 1 and log.done == 2
    assert value(metrics, "audit_duplicates_total") == 1


def test_the_lag_is_what_is_not_committed_also_after_a_new_start(indexer_of, metrics, monkeypatch):
    log = Log(*lines(record("r1"), record("r2")))
    indexer = indexer_of(log)
    indexer.step()
    assert value(metrics, "audit_lag_records") == 2
    indexer_of(log).step()  # another one, which has read nothing
    assert value(metrics, "audit_lag_records") == 0

    def fail(_places, timeout):
        raise KafkaException(KafkaError(KafkaError._ALL_BROKERS_DOWN))

    log.messages.append(Message(lines(record("r3"))[0], 2))
    monkeypatch.setattr(log, "committed", fail)
    indexer.step()
    assert log.done == 3
    assert value(metrics, "audit_lag_records") == 0  # as it was last known


def test_two_records_under_one_id_are_two_documents(indexer_of, index):
    indexer_of(Log(*lines(record("r1", query="a"), record("r1", query="b")))).step()
    assert len(index.documents) == 2


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.Response(503, text="starting"),
        httpx.Response(429, text="busy"),
        httpx.Response(401, text="who?"),
        httpx.Response(400, text="broken"),
        httpx.Response(200, json={"items": []}),
    ],
    ids=lambda f: type(f).__name__ if isinstance(f, Exception) else str(f.status_code),
)
def test_while_the_index_fails_nothing_is_committed(indexer_of, index, metrics, failure):
    log = Log(*lines(record("r1"), record("r2")))
    indexer = indexer_of(log)
    index.failures = [failure]
    indexer.step()
    assert (log.done, log.at) == (0, 0) and indexer.reason
    assert value(metrics, "audit_bulk_failures_total") == 1
    indexer.step()
    assert log.done == 2 and indexer.reason is None
    assert len(index.documents) == 2


def test_a_record_that_is_refused_for_now_holds_the_batch(indexer_of, index, kept):
    log = Log(b"poison", *lines(record("r1"), record("r2")))
    indexer = indexer_of(log)
    index.refused = {"r2": 404}  # no template yet
    indexer.step()
    assert log.done == 0 and kept.letters == []
    index.refused = {}
    indexer.step()
    assert log.done == 3 and len(index.documents) == 2 and len(kept.letters) == 1


def test_poison_is_put_aside_with_its_reason_and_the_rest_goes_on(indexer_of, index, kept, metrics):
    log = Log(b"{torn", *lines(record("r1"), record("r2")))
    index.refused = {"r1": 400}
    indexer_of(log).step()
    assert log.done == 3 and len(index.documents) == 1
    (first, why_first), (second, why_second) = kept.letters
    assert (first, second) == (0, 1)
    assert "not JSON" in why_first and "by the test" in why_second
    assert value(metrics, "audit_dead_lettered_total") == 2


def test_when_the_dead_letter_topic_is_down_nothing_is_committed(indexer_of, kept):
    log, kept.down = Log(b"{torn"), True
    indexer = indexer_of(log)
    indexer.step()
    assert log.done == 0 and "dead-letter" in indexer.reason
    kept.down = False
    indexer.step()
    assert log.done == 1


def test_a_partition_that_was_lost_meanwhile_is_left_to_its_new_owner(indexer_of, index):
    class Lost(Log):
        def commit(self, offsets, asynchronous):
            raise KafkaException(KafkaError(KafkaError.ILLEGAL_GENERATION))

        def seek(self, place):
            raise KafkaException(KafkaError(KafkaError._STATE))

    log = Lost(*lines(record("r1")))
    indexer = indexer_of(log)
    index.failures = [httpx.ConnectError("refused")]
    indexer.step()
    log.at = 0
    indexer.step()
    assert len(index.documents) == 1


def test_large_batches_are_cut(indexer_of, index):
    sizes = []
    answer = index.__call__

    def measured(request):
        sizes.append(len(request.content))
        return answer(request)

    index.__class__.__call__, before = (
        lambda _, request: measured(request),
        index.__class__.__call__,
    )
    try:
        indexer_of(Log(*lines(*(record(f"r{n}", prompt="x" * (3 << 20)) for n in range(4))))).step()
    finally:
        index.__class__.__call__ = before
    assert len(sizes) == 2 and max(sizes) < 9 << 20


def test_an_error_of_the_log_is_no_record(indexer_of):
    log = Log()
    log.messages = [Message(None, 0, error=KafkaError(KafkaError._ALL_BROKERS_DOWN))]
    indexer_of(log).step()
    assert log.done == 0


def test_the_service_is_ready_measured_and_stopped(indexer_of, metrics):
    log = Log(*lines(record("r1")))
    running = Running(indexer_of(log))
    with TestClient(create_app(running, metrics)) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 200
        assert 'audit_indexed_total{event="completion"} 0.0' in client.get("/metrics").text
        running.indexer.reason = "elasticsearch: away"
        assert "away" in client.get("/readyz").json()["detail"]
    assert log.closed and not running.failed


def test_a_consumer_that_is_broken_for_good_ends_the_process(indexer_of, metrics, monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr("rag_audit.app.signal.raise_signal", lambda _: ended.set())
    log = Log()
    log.messages = [Message(None, 0, error=KafkaError(KafkaError._FATAL, "fenced", True))]
    running = Running(indexer_of(log))
    with TestClient(create_app(running, metrics)):
        assert ended.wait(5)
    assert running.failed and log.closed
