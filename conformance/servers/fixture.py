"""The servers as pytest fixtures: `pytest_plugins = ["conformance.servers.fixture"]`."""

from collections.abc import Iterator

import pytest

from conformance.servers.kafka import Kafka


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A running broker; a test that stops it starts it again."""
    server = Kafka(tmp_path_factory.mktemp("kafka"))
    try:
        server.start()
        yield server
    finally:
        server.kill()
