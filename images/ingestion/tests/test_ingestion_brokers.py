"""The event consumer's contract on real brokers: Kafka and RabbitMQ, killed and repeated."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid

import httpx
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from faststream.rabbit import RabbitBroker, RabbitQueue
from faststream.security import SASLPlaintext

from conformance.children import free_port

pytest_plugins = ["conformance.servers.fixture"]
pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]

# The command, whose index is a file: a line for each document that is in step, written when it is.
PROGRAM = """
import asyncio, json, os, sys
from rag_ingestion.events import handler, main
from rag_ingestion.errors import SourceError
from rag_ingestion.report import Report

async def ingest_one(source, key, tenant, settings, store=None):
    if os.path.exists(os.environ["DOWN"]):
        raise SourceError("the source is down")
    await asyncio.sleep(float(os.environ.get("SLOW", 0)))
    with open(os.environ["INDEX"], "a") as file:
        file.write(json.dumps([source, key]) + "\\n")
    return Report(tenant, source, added=1)

handler.ingest_one = ingest_one
sys.exit(main.main())
"""


def event(key):
    told = {"bucket": {"name": "documents"}, "object": {"key": f"acme/{key}"}}
    return json.dumps({"Records": [{"eventName": "ObjectCreated:Put", "s3": told}]}).encode()


class KafkaSide:
    """Sends events, and reads the dead letters."""

    def __init__(self, server, name):
        self.server, self.name, self.url = server, name, f"kafka://{server.address}"
        self.settings = {"bootstrap.servers": server.address}
        topics = [NewTopic(name, 2, 1), NewTopic(f"{name}.dead-letter", 1, 1)]
        admin = AdminClient(self.settings)
        for made in admin.create_topics(topics).values():
            made.result(30)

    def send(self, *bodies):
        producer = Producer({**self.settings, "acks": "all"})
        for body in bodies:
            producer.produce(self.name, body)
        assert producer.flush(30) == 0

    def letters(self, number):
        consumer = Consumer({**self.settings, "group.id": "test"})
        consumer.assign([TopicPartition(f"{self.name}.dead-letter", 0, 0)])
        found = consumer.consume(number, 30)
        consumer.close()
        return [(m.value(), dict(m.headers())["reason"].decode()) for m in found]

    def left(self):
        """Messages that are not committed."""
        consumer = Consumer({**self.settings, "group.id": self.name})
        places = consumer.committed([TopicPartition(self.name, n) for n in (0, 1)], timeout=10)
        ends = [consumer.get_watermark_offsets(p, timeout=10)[1] for p in places]
        consumer.close()
        return sum(end - max(0, p.offset) for p, end in zip(places, ends, strict=True))


class RabbitSide:
    """The same of RabbitMQ."""

    def __init__(self, server, name):
        self.server, self.name, self.url = server, name, server.url

    def send(self, *bodies):
        async def work(broker):
            await broker.declare_queue(RabbitQueue(self.name, durable=True))
            for body in bodies:
                await broker.publish(body, queue=RabbitQueue(self.name, durable=True), persist=True)

        self._run(work)

    def letters(self, number):
        async def work(broker):
            queue = await broker.declare_queue(
                RabbitQueue(f"{self.name}.dead-letter", durable=True)
            )
            found = []
            while len(found) < number:
                if message := await queue.get(timeout=5, fail=False):
                    found.append((message.body, message.headers["reason"]))
                    await message.ack()
                await asyncio.sleep(0.05)
            return found

        return self._run(work)

    def left(self):
        async def work(broker):
            queue = await broker.declare_queue(RabbitQueue(self.name, durable=True))
            return queue.declaration_result.message_count

        return self._run(work)

    def _run(self, work):
        async def connected():
            async with RabbitBroker(
                self.url, security=SASLPlaintext("guest", "guest", use_ssl=False), logger=None
            ) as broker:
                await broker.start()
                return await work(broker)

        return asyncio.run(connected())


@pytest.fixture(params=["kafka", "rabbitmq"])
def side(request):
    server = request.getfixturevalue(request.param)
    kind = KafkaSide if request.param == "kafka" else RabbitSide
    return kind(server, f"documents-{uuid.uuid4().hex[:8]}")


class Process:
    """The consumer as the image runs it."""

    def __init__(self, side, folder):
        self.index, self.down, self.log = folder / "index", folder / "down", folder / "log"
        self.port, self.process = free_port(), None
        login = folder / "login.json"
        login.write_text('{"username": "guest", "password": "guest"}')
        self.environment = {
            **os.environ,
            "BIND": f"127.0.0.1:{self.port}",
            "EVENTS_URL": side.url,
            "EVENTS_TOPIC": side.name,
            "EVENTS_DEAD_LETTER": f"{side.name}.dead-letter",
            "EVENTS_GROUP": side.name,
            "EVENTS_RETRY_SECONDS": "2",
            "EMBEDDING_URL": "http://unused",
            "VECTOR_DB_URL": "postgresql:///unused",
            "VECTOR_DB_CREDENTIALS_FILE": str(login),
            "INDEX": str(self.index),
            "DOWN": str(self.down),
        }
        if side.url.startswith("amqp"):
            self.environment["EVENTS_CREDENTIALS_FILE"] = str(login)

    def start(self, **more):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM], env=self.environment | more, stderr=log
            )

    def end(self, number):
        self.process.send_signal(number)
        return self.process.wait(60)

    def documents(self):
        lines = self.index.read_text().splitlines() if self.index.exists() else []
        return [json.loads(line)[1] for line in lines]

    def lag(self):
        """What it tells of the events that wait, or None while it does not know."""
        text = httpx.get(f"http://127.0.0.1:{self.port}/metrics", trust_env=False).text
        found = [x.split()[1] for x in text.splitlines() if x.startswith("ingest_events_lag ")]
        return float(found[0]) if found else None

    def ready(self):
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/readyz", trust_env=False).is_success
        except httpx.HTTPError:
            return False


@pytest.fixture
def consumer(side, tmp_path):
    made = Process(side, tmp_path)
    yield made
    if made.process and made.process.poll() is None:
        made.end(signal.SIGKILL)


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.1)
    return value


def test_every_event_is_dealt_with_and_acknowledged(side, consumer):
    side.send(*(event(f"{n}.md") for n in range(20)))
    consumer.start()
    until(lambda: len(consumer.documents()) == 20)
    until(lambda: side.left() == 0)
    assert consumer.ready()
    until(lambda: consumer.lag() == 0)
    assert sorted(consumer.documents()) == sorted(f"{n}.md" for n in range(20))


def test_poison_is_put_aside_and_the_rest_goes_on(side, consumer):
    side.send(b"{torn", event("a.md"), b'{"Records": []}')
    consumer.start()
    until(lambda: consumer.documents() == ["a.md"])
    letters = dict(side.letters(2))
    assert "not JSON" in letters[b"{torn"] and "Records" in letters[b'{"Records": []}']
    until(lambda: side.left() == 0)


def test_a_consumer_that_is_killed_before_the_upsert_loses_nothing(side, consumer):
    consumer.start(SLOW="30")
    until(consumer.ready)
    side.send(event("a.md"), event("b.md"))
    until(lambda: consumer.lag())
    consumer.end(signal.SIGKILL)
    assert consumer.documents() == [] and side.left() == 2
    consumer.start()
    until(lambda: set(consumer.documents()) == {"a.md", "b.md"})
    until(lambda: side.left() == 0)


def test_while_the_source_is_down_nothing_is_acknowledged(side, consumer):
    consumer.down.touch()
    consumer.start()
    until(consumer.ready)
    side.send(event("a.md"))
    time.sleep(5)  # longer than it tries by itself: the broker hands it out again
    assert consumer.documents() == []
    if isinstance(side, KafkaSide):
        assert side.left() == 1
    consumer.down.unlink()
    until(lambda: consumer.documents() == ["a.md"])
    until(lambda: side.left() == 0)


def test_a_stop_finishes_the_document_at_hand(side, consumer):
    consumer.start(SLOW="3")
    until(consumer.ready)
    side.send(event("a.md"))
    time.sleep(1.5)
    consumer.end(signal.SIGTERM)
    assert consumer.documents() == ["a.md"]
    until(lambda: side.left() == 0, 20)
