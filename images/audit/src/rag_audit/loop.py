"""From the log into the index: read, write, put aside, and only then say that it was read."""

import logging
import random
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from rag_audit.bulk import Fate, Result, write
from rag_audit.deadletter import DeadLetters, Letter
from rag_audit.documents import Document, document, now
from rag_audit.elasticsearch import Elasticsearch
from rag_audit.errors import AuditError, PoisonError
from rag_audit.metrics import Metrics
from rag_audit.settings import IndexerSettings

log = logging.getLogger(__name__)
_FIRST_BACKOFF = 0.5
_QUEUED_KB = 16_384  # read ahead, at most
_LAG_SECONDS = 5.0


def open_consumer(connection: Mapping[str, Any], group: str) -> Consumer:
    """A member of the group that commits nothing by itself."""
    return Consumer(
        {
            **connection,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 12_000,  # a killed member's partitions go to another one after it
            "partition.assignment.strategy": "cooperative-sticky",
            "queued.max.messages.kbytes": _QUEUED_KB,
            "reconnect.backoff.max.ms": 5000,
            "on_commit": _on_commit,
            "logger": log,
        }
    )


def _on_commit(error: KafkaError | None, _: Sequence[TopicPartition]) -> None:
    """The log restarted meanwhile, or another member has the partition: duplicates will be written."""
    if error:
        log.warning("not committed", extra={"reason": str(error)})


class Indexer:
    """Runs until it is stopped; `reason` says why it does not get on, or is None."""

    def __init__(
        self,
        settings: IndexerSettings,
        consumer: Consumer,
        server: Elasticsearch,
        dead_letters: DeadLetters,
        metrics: Metrics,
    ) -> None:
        self._settings, self._consumer, self._server = settings, consumer, server
        self._dead_letters, self._metrics = dead_letters, metrics
        self._stopped = threading.Event()
        self._failures = 0
        self.reason: str | None = "not yet a member of the group"

    def stop(self) -> None:
        """Ask it to end after the batch at hand."""
        self._stopped.set()

    def run(self) -> None:
        """Index until `stop`; raises `KafkaException` when the consumer is broken for good."""
        self._consumer.subscribe([self._settings.audit_topic], on_assign=self._on_assign)
        try:
            while not self._stopped.is_set():
                self.step()
        finally:
            self._consumer.close()

    def step(self) -> None:
        """One batch: it is in the index and committed after this, or will be read again."""
        batch = self._read()
        if not batch:
            return
        try:
            self._write(batch)
        except AuditError as error:
            self._rewind(batch, error)
            return
        self._commit(batch)
        self._failures, self.reason = 0, None

    def _read(self) -> list["Message[bytes, bytes]"]:
        found = self._consumer.consume(
            self._settings.audit_batch_records, self._settings.audit_batch_seconds
        )
        self._measure_lag()
        for message in found:
            if error := message.error():
                self._on_error(error)
        return [message for message in found if not message.error()]

    def _write(self, batch: Sequence["Message[bytes, bytes]"]) -> None:
        """Raises `AuditError` when the batch must be written again."""
        letters: list[Letter] = []
        good: list[tuple[Message[bytes, bytes], Document]] = []
        for message in batch:
            try:
                good.append((message, document(message.value())))
            except PoisonError as error:
                letters.append((message, str(error)))
        results = write(self._server, [made for _, made in good])
        refused = [
            (message, result.reason)
            for (message, _), result in zip(good, results, strict=True)
            if result.fate is Fate.POISON
        ]
        self._put_aside([*letters, *refused])
        for (_, made), result in zip(good, results, strict=True):
            self._count(made, result)

    def _put_aside(self, letters: Sequence[Letter]) -> None:
        if not letters:
            return
        self._dead_letters.keep(letters)
        self._metrics.dead_lettered.inc(len(letters))
        for message, reason in letters:
            place = {"partition": message.partition(), "offset": message.offset()}
            log.error("a record was put aside", extra={"reason": reason, **place})

    def _count(self, made: Document, result: Result) -> None:
        if result.fate is Fate.INDEXED:
            self._metrics.indexed.labels(made.event).inc()
            self._metrics.delay.observe(max(0.0, (now() - made.time).total_seconds()))
        elif result.fate is Fate.DUPLICATE:
            self._metrics.duplicates.inc()

    def _commit(self, batch: Sequence["Message[bytes, bytes]"]) -> None:
        """Not waited for: while the log restarts that has no end, and the consumer is not polled."""
        offsets = [TopicPartition(t, p, last + 1) for (t, p), (_, last) in _ranges(batch).items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            log.warning("not committed", extra={"reason": str(error)})

    def _rewind(self, batch: Sequence["Message[bytes, bytes]"], error: AuditError) -> None:
        """Read the batch again, later; the consumer is polled often enough to stay a member."""
        self._failures += 1
        self.reason = str(error)
        self._metrics.failures.inc()
        longest = min(self._settings.audit_backoff_seconds, _FIRST_BACKOFF * 2**self._failures)
        log.error("a batch will be written again", extra={"reason": str(error), "in": longest})
        for (topic, partition), (first, _) in _ranges(batch).items():
            try:
                self._consumer.seek(TopicPartition(topic, partition, first))
            except KafkaException as gone:  # no longer ours; its new owner starts at the commit
                log.info("not rewound", extra={"reason": str(gone)})
        self._stopped.wait(longest * random.uniform(0.5, 1))  # noqa: S311

    def _on_assign(self, _: Any, partitions: Sequence[TopicPartition]) -> None:
        log.info("partitions", extra={"assigned": [p.partition for p in partitions]})
        if self._failures == 0:
            self.reason = None

    def _on_error(self, error: KafkaError) -> None:
        log.error("the log cannot be read", extra={"reason": str(error)})
        if error.fatal():
            raise KafkaException(error)

    def _measure_lag(self) -> None:
        """What lies behind the group's commits: a position is unknown until something was read."""
        own = self._consumer.assignment()
        try:
            places = self._consumer.committed(own, timeout=_LAG_SECONDS) if own else []
        except KafkaException as error:
            log.warning("the lag is not known", extra={"reason": str(error)})
            return
        lag = 0
        for place in places:
            low, high = self._consumer.get_watermark_offsets(place, cached=True)
            lag += max(0, high - max(place.offset, low)) if high > 0 else 0
        self._metrics.lag.set(lag)


def _ranges(
    batch: Sequence["Message[bytes, bytes]"],
) -> dict[tuple[str, int], tuple[int, int]]:
    """First and last offset of the batch in each partition."""
    found: dict[tuple[str, int], tuple[int, int]] = {}
    for message in batch:
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        assert topic is not None and partition is not None and offset is not None
        first, last = found.get((topic, partition), (offset, offset))
        found[topic, partition] = min(first, offset), max(last, offset)
    return found
