"""Records that cannot be indexed, kept in a topic of their own with the reason."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from rag_audit.errors import UnavailableError

log = logging.getLogger(__name__)
MAX_BYTES = 5 << 20  # the largest record of the log, and its headers
_SECONDS = 10.0
_MAX_REASON = 1000

Letter = tuple["Message[bytes, bytes]", str]


class DeadLetters(Protocol):
    """Takes what cannot be indexed."""

    def keep(self, letters: Sequence[Letter]) -> None:
        """Make the messages durable with their reasons; raises `UnavailableError`."""


class DeadLetterTopic:
    """A topic of Kafka; headers say why, and where a message was."""

    def __init__(self, connection: Mapping[str, Any], topic: str) -> None:
        self._topic = topic
        self._settings: dict[str, Any] = {
            **connection,
            "acks": "all",
            "enable.idempotence": True,
            "delivery.timeout.ms": int(_SECONDS * 1000),
            "message.max.bytes": MAX_BYTES,
            "logger": log,
        }
        self._producer = Producer(self._settings)

    def keep(self, letters: Sequence[Letter]) -> None:
        """See `DeadLetters`."""
        errors: list[str] = []
        try:
            for message, reason in letters:
                self._producer.produce(
                    self._topic,
                    message.value(),
                    message.key(),
                    headers=_headers(message, reason),
                    on_delivery=partial(_note, errors),
                )
            left = self._producer.flush(_SECONDS + 1)
        except (BufferError, KafkaException) as error:
            raise self._failed(str(error)) from error
        if errors or left:
            raise self._failed(errors[0] if errors else f"{left} not confirmed")

    def _failed(self, reason: str) -> UnavailableError:
        self._producer.purge()
        self._producer = Producer(self._settings)  # whatever broke the old one
        return UnavailableError(f"dead-letter topic {self._topic}: {reason}")


def _headers(message: "Message[bytes, bytes]", reason: str) -> dict[str, str | bytes | None]:
    place = f"{message.topic()}/{message.partition()}/{message.offset()}"
    return {"reason": reason[:_MAX_REASON].encode(), "source": place.encode()}


def _note(errors: list[str], error: KafkaError | None, _: "Message[bytes, bytes]") -> None:
    if error:
        errors.append(str(error))
