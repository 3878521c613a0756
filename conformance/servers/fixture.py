"""The servers as pytest fixtures: `pytest_plugins = ["conformance.servers.fixture"]`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest

from conformance.servers.elasticsearch import Elasticsearch
from conformance.servers.kafka import Kafka
from conformance.servers.rabbitmq import RabbitMQ

S = TypeVar("S", Kafka, Elasticsearch, RabbitMQ)
ACCOUNTS = {
    "indexer": "audit_writer",
    "template": "audit_template",
    "retention": "audit_retention",
    "reader": "audit_reader",
    "fluent-bit": "log_writer",
    "operator": "log_reader",
    "reviewer": "audit_review",
    "review": "audit_objects",
    "lifecycle": "audit_lifecycle",
}

LOGINS = {name: f"password-of-{name}" for name in ("retrieval", "ingestion", "indexer", "topics")}


@contextmanager
def _running(server: S) -> Iterator[S]:
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A running broker; a test that stops it starts it again."""
    with _running(Kafka(tmp_path_factory.mktemp("kafka"))) as server:
        yield server


@pytest.fixture(scope="session")
def guarded_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A running broker that asks for a login and has the platform's rights; passwords as `LOGINS`."""
    with _running(Kafka(tmp_path_factory.mktemp("guarded-kafka"), LOGINS)) as server:
        yield server


@pytest.fixture(scope="session")
def elasticsearch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elasticsearch]:
    """A running node with the platform's accounts; a test that stops it starts it again."""
    with _running(Elasticsearch(tmp_path_factory.mktemp("elasticsearch"), ACCOUNTS)) as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A running node; a test that stops it starts it again."""
    with _running(RabbitMQ(tmp_path_factory.mktemp("rabbitmq"))) as server:
        yield server
