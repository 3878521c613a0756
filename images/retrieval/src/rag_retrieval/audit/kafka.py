"""A Kafka topic as the durable log: acknowledged by all in-sync replicas before a caller has an answer."""

import asyncio
import logging
import threading
from collections.abc import Mapping
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from rag_retrieval.audit.waiting import settle, waiting
from rag_retrieval.errors import AuditError

log = logging.getLogger(__name__)
MAX_BYTES = 4 << 20  # of a record; the topic takes as much
_POLL_SECONDS = 0.2
_METADATA_SECONDS = 1.5
_CLOSE_SECONDS = 5.0


class KafkaSink:
    """Produces lines to `topic`; a record that is not confirmed in `seconds` is refused."""

    def __init__(self, connection: Mapping[str, Any], topic: str, seconds: float) -> None:
        self._topic, self._seconds = topic, seconds
        self._settings: dict[str, Any] = {
            **connection,
            "client.id": "rag-retrieval-audit",
            "acks": "all",
            "enable.idempotence": True,  # retries neither repeat nor reorder records
            "delivery.timeout.ms": max(1, int(seconds * 1000)),
            "linger.ms": 0,
            "compression.type": "zstd",
            "message.max.bytes": MAX_BYTES,
            "reconnect.backoff.max.ms": 1000,
            "socket.keepalive.enable": True,
            "error_cb": self._on_error,
            "logger": logging.getLogger(f"{__name__}.client"),
        }
        self._closed, self._broken, self._reached = threading.Event(), threading.Event(), False
        self._producer = Producer(self._settings)
        self._thread = threading.Thread(target=self._run, name="audit-kafka", daemon=True)
        self._thread.start()

    def submit(self, lines: bytes, key: str = "") -> "asyncio.Future[None]":
        """Hand over one record; records of a `key` keep their order. See `Sink`."""
        done = waiting()
        if self._closed.is_set():
            done.set_exception(AuditError("the audit log is closed"))
            return done
        limit = done.get_loop().call_later(self._seconds, _overdue, done, self._seconds)
        done.add_done_callback(lambda _: limit.cancel())
        try:
            self._producer.produce(
                self._topic, lines.rstrip(b"\n"), key, on_delivery=partial(_delivered, done)
            )
        except (BufferError, KafkaException) as error:
            done.set_exception(AuditError(f"the audit log does not take the record: {error}"))
        return done

    async def ready(self) -> None:
        """Raise `AuditError` until the topic was reached once.

        A later outage refuses requests one by one, each with the reason.
        """
        if self._closed.is_set():
            raise AuditError("the audit log is closed")
        if not self._reached:
            await asyncio.to_thread(self._reach)

    def _reach(self) -> None:
        try:
            found = self._producer.list_topics(self._topic, timeout=_METADATA_SECONDS)
        except KafkaException as error:
            raise AuditError(f"the audit log cannot be reached: {error}") from error
        if wrong := found.topics[self._topic].error:
            raise AuditError(f"audit topic {self._topic}: {wrong}")
        self._reached = True

    def close(self) -> None:
        """Wait a little for what is under way; nothing is taken any more."""
        if not self._closed.is_set():
            self._closed.set()
            self._thread.join()
            self._producer.flush(min(self._seconds, _CLOSE_SECONDS))
            _drop(self._producer)

    def _run(self) -> None:
        while not self._closed.is_set():
            if self._broken.is_set():  # it never recovers; what it held is refused
                self._broken.clear()
                broken, self._producer = self._producer, Producer(self._settings)
                _drop(broken)
            self._producer.poll(_POLL_SECONDS)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            log.error("the audit log's producer is replaced", extra={"reason": str(error)})
            self._broken.set()


def _drop(producer: Producer) -> None:
    producer.purge()
    producer.close()


def _delivered(
    done: "asyncio.Future[None]", error: KafkaError | None, _message: "Message[bytes, bytes]"
) -> None:
    settle([done], f"the audit log did not keep the record: {error}" if error else None)


def _overdue(done: "asyncio.Future[None]", seconds: float) -> None:
    if not done.done():
        done.set_exception(AuditError(f"the audit log did not confirm within {seconds:g} s"))
