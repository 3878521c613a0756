"""The audit log in Kafka: durable first, in order, once, and closed when the broker is not there."""

import asyncio
import gc
import json
import logging
import time
import uuid

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from rag_retrieval.audit import open_sink
from rag_retrieval.errors import AuditError

pytest_plugins = ["conformance.servers.fixture"]
NOWHERE = "kafka://127.0.0.1:1/audit"


def line(number):
    return json.dumps({"n": number}).encode() + b"\n"


@pytest.fixture
def unreachable():
    sink = open_sink(NOWHERE, segment_bytes=1, segment_seconds=1, timeout_seconds=0.3)
    yield sink
    sink.close()


async def test_without_a_broker_a_record_is_refused_in_time(unreachable):
    began = time.monotonic()
    with pytest.raises(AuditError, match=r"0\.3 s|timed out"):
        await unreachable.submit(line(1), "r1")
    assert time.monotonic() - began < 2


async def test_without_a_broker_the_sink_is_not_ready(unreachable):
    with pytest.raises(AuditError, match="cannot be reached"):
        await unreachable.ready()


async def test_a_closed_sink_refuses(unreachable):
    unreachable.close()
    with pytest.raises(AuditError, match="closed"):
        await unreachable.submit(line(1))
    with pytest.raises(AuditError, match="closed"):
        await unreachable.ready()


async def test_a_record_that_is_too_large_is_refused_at_once(unreachable):
    with pytest.raises(AuditError, match="does not take the record"):
        await unreachable.submit(b"x" * (5 << 20))


async def test_a_failure_that_nobody_waits_for_is_silent(unreachable, caplog):
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    unreachable.submit(line(1), "r1")
    await asyncio.sleep(0.6)
    gc.collect()
    await asyncio.sleep(0)
    assert told == []


async def test_a_producer_that_is_broken_for_good_is_replaced(unreachable):
    before = unreachable._producer
    unreachable._on_error(KafkaError(KafkaError._FATAL, "fenced", True))
    end = time.monotonic() + 5
    while unreachable._producer is before:
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


def test_a_request_is_refused_and_says_why(start, store):
    service = start(store, audit_sink=NOWHERE, audit_timeout_seconds=0.3)
    for answer in (service.retrieve(), service.answer()):
        assert answer.status_code == 503
        assert answer.json()["title"] == "Audit unavailable"
        assert "leave" not in answer.text
    assert "audit" in service.client.get("/readyz").json()["detail"]


@pytest.fixture
def topic(kafka):
    name = f"audit-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka.address})
    settings = {"max.message.bytes": str(4 << 20)}
    created = admin.create_topics([NewTopic(name, 3, 1, config=settings)])
    created[name].result(30)
    return name


def records(kafka, topic):
    consumer = Consumer({"bootstrap.servers": kafka.address, "group.id": "test"})
    found = []
    for partition in range(3):
        place = TopicPartition(topic, partition, 0)
        _, end = consumer.get_watermark_offsets(place, timeout=10)
        consumer.assign([place])
        for message in consumer.consume(end, 20) if end else []:
            found.append((message.key().decode(), json.loads(message.value())))
    consumer.close()
    return found


@pytest.fixture
def sink(kafka, topic):
    made = open_sink(
        f"kafka://{kafka.address}/{topic}", segment_bytes=1, segment_seconds=1, timeout_seconds=10
    )
    yield made
    made.close()


@pytest.mark.servers
async def test_a_confirmed_record_is_in_the_topic(sink, kafka, topic):
    await sink.ready()
    await asyncio.gather(*(sink.submit(line(n), f"r{n}") for n in range(200)))
    assert sorted(r["n"] for _, r in records(kafka, topic)) == list(range(200))


@pytest.mark.servers
async def test_a_large_prompt_fits(sink, kafka, topic):
    await sink.submit(json.dumps({"n": "x" * (3 << 20)}).encode(), "r")
    assert len(records(kafka, topic)) == 1


@pytest.mark.servers
async def test_a_topic_that_is_not_there_is_not_ready(kafka):
    url = f"kafka://{kafka.address}/nothing-here"
    sink = open_sink(url, segment_bytes=1, segment_seconds=1, timeout_seconds=1)
    with pytest.raises(AuditError, match="nothing-here"):
        await sink.ready()
    sink.close()


@pytest.mark.servers
def test_both_records_of_a_request_are_there_before_its_answer(start, store, kafka, topic):
    service = start(store, audit_sink=f"kafka://{kafka.address}/{topic}")
    body = service.retrieve().json()
    assert service.client.get("/readyz").status_code == 200
    said = [r for key, r in records(kafka, topic) if key == body["request_id"]]
    assert [r["event"] for r in said] == ["intent", "completion"]
    answer = service.answer().json()
    said = [r for key, r in records(kafka, topic) if key == answer["request_id"]]
    assert [r["event"] for r in said] == ["intent", "completion"]
    assert said[1]["response"] == answer["answer"]


@pytest.mark.servers
def test_a_broker_that_goes_and_comes_back(start, store, kafka, topic, caplog):
    """A broker that hangs refuses requests in time; after it came back they are answered again."""
    caplog.set_level(logging.ERROR, "asyncio")
    address = f"kafka://{kafka.address}/{topic}"
    service = start(store, audit_sink=address, audit_timeout_seconds=2)
    assert service.retrieve().status_code == 200
    kafka.pause()
    try:
        began = time.monotonic()
        refused = service.retrieve()
        assert refused.status_code == 503 and refused.json()["title"] == "Audit unavailable"
        assert time.monotonic() - began < 4
    finally:
        kafka.resume()
    answered(service)
    kafka.kill()
    assert service.retrieve().status_code == 503
    kafka.start()
    body = answered(service)
    said = [r["event"] for key, r in records(kafka, topic) if key == body["request_id"]]
    assert said == ["intent", "completion"]
    gc.collect()
    assert "never retrieved" not in caplog.text


def answered(service):
    end = time.monotonic() + 30
    while (answer := service.retrieve()).status_code != 200:
        assert time.monotonic() < end, answer.text
        time.sleep(0.2)
    return answer.json()
