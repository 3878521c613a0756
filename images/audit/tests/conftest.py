"""What the tests share: settings, a server that is a function, a consumer that is a list."""

import json

import httpx
import pytest
from confluent_kafka import OFFSET_INVALID, TopicPartition

from rag_audit.documents import now
from rag_audit.elasticsearch import Elasticsearch
from rag_audit.errors import UnavailableError
from rag_audit.loop import Indexer
from rag_audit.metrics import Metrics
from rag_audit.settings import IndexerSettings


def record(request_id="r1", event="intent", **fields):
    """A record as retrieval writes it."""
    return {"event": event, "request_id": request_id, "time": now().isoformat(), **fields}


class Message:
    """What the consumer hands out."""

    def __init__(self, value, offset, partition=0, error=None):
        self._value, self._offset, self._partition, self._error = value, offset, partition, error

    def value(self):
        return self._value

    def key(self):
        return b"key"

    def topic(self):
        return "audit"

    def partition(self):
        return self._partition

    def offset(self):
        return self._offset

    def error(self):
        return self._error


class Log:
    """A consumer over a list: it reads on from its position, and can be sought back."""

    def __init__(self, *values):
        self.messages = [Message(value, n) for n, value in enumerate(values)]
        self.at = self.done = 0
        self.closed = False

    def subscribe(self, topics, on_assign):
        on_assign(self, [])

    def consume(self, number, _seconds):
        found = self.messages[self.at : self.at + number]
        self.at += len(found)
        return found

    def commit(self, offsets, asynchronous):
        assert asynchronous is True  # a commit that is waited for may have no end
        (self.done,) = [place.offset for place in offsets]

    def seek(self, place):
        self.at = place.offset

    def assignment(self):
        return [TopicPartition("audit", 0)]

    def committed(self, places, timeout):
        return [TopicPartition(p.topic, p.partition, self.done or OFFSET_INVALID) for p in places]

    def get_watermark_offsets(self, _place, cached):
        return 0, len(self.messages)

    def close(self):
        self.closed = True


class Index:
    """A server that keeps documents by id, and fails as it is told to."""

    def __init__(self):
        self.documents = {}
        self.failures = []
        self.refused = {}

    def __call__(self, request):
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, Exception):
                raise failure
            return failure
        lines = request.content.splitlines()
        pairs = zip(lines[::2], lines[1::2], strict=True)
        items = [self._one(*map(json.loads, pair)) for pair in pairs]
        return httpx.Response(200, json={"items": [{"create": item} for item in items]})

    def _one(self, action, source):
        name = action["create"]["_id"]
        if status := self.refused.get(source["request_id"]):
            return {"status": status, "error": {"type": "refused", "reason": "by the test"}}
        if name in self.documents:
            return {"status": 409, "error": {"type": "version_conflict", "reason": "there"}}
        self.documents[name] = source
        return {"status": 201}


class Kept:
    """Dead letters in a list."""

    def __init__(self):
        self.letters, self.down = [], False

    def keep(self, letters):
        if self.down:
            raise UnavailableError("dead-letter topic: down")
        self.letters += [(m.offset(), reason) for m, reason in letters]


@pytest.fixture
def credentials(tmp_path):
    path = tmp_path / "login.json"
    path.write_text('{"username": "indexer", "password": "secret"}')
    return path


@pytest.fixture
def settings(credentials):
    return IndexerSettings(
        elasticsearch_url="http://index",
        elasticsearch_credentials_file=credentials,
        kafka_brokers="127.0.0.1:1",
        audit_backoff_seconds=0.01,
    )


@pytest.fixture
def index():
    return Index()


@pytest.fixture
def server(settings, index):
    with Elasticsearch(settings, httpx.MockTransport(index)) as made:
        yield made


@pytest.fixture
def kept():
    return Kept()


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def indexer_of(settings, server, kept, metrics):
    """Makes an indexer over a log."""
    return lambda log: Indexer(settings, log, server, kept, metrics)
