"""Where audit records become durable: files of this machine, or a Kafka topic."""

import asyncio
import re
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from rag_common.files import SecretFileError
from rag_common.kafka import connection
from rag_retrieval.audit.kafka import KafkaSink
from rag_retrieval.audit.spool import Spool
from rag_retrieval.errors import SettingsError

_TOPIC = re.compile(r"/[A-Za-z0-9._-]{1,249}")


class Sink(Protocol):
    """A durable log of lines."""

    def submit(self, lines: bytes, key: str = "", /) -> "asyncio.Future[None]":
        """Queue complete lines, in order for a `key`; the future is done once they are durable.

        It fails with `AuditError` when they cannot be kept.
        """

    async def ready(self) -> None:
        """Raise `AuditError` when nothing can be written any more."""

    def close(self) -> None:
        """Write what is queued, then release everything."""


def open_sink(
    url: str,
    *,
    segment_bytes: int,
    segment_seconds: float,
    timeout_seconds: float,
    credentials: Path | None = None,
) -> Sink:
    """The sink of `file:///dir` or `kafka://host:port[,host:port]/topic`; raises `SettingsError`."""
    parts = urlsplit(url)
    if parts.scheme == "file" and not parts.netloc and parts.path:
        return _spool(Path(parts.path), segment_bytes, segment_seconds)
    if parts.scheme == "kafka" and _addresses(parts.netloc) and _TOPIC.fullmatch(parts.path):
        return _topic(parts.netloc, parts.path[1:], timeout_seconds, credentials)
    raise SettingsError(
        f"AUDIT_SINK: {url!r}: expected file:///directory or kafka://host:port/topic"
    )


def _topic(brokers: str, topic: str, seconds: float, credentials: Path | None) -> KafkaSink:
    try:
        return KafkaSink(connection(brokers, credentials), topic, seconds)
    except SecretFileError as error:
        raise SettingsError(f"AUDIT_CREDENTIALS_FILE: {error}") from error


def _addresses(text: str) -> bool:
    return all(re.fullmatch(r"[A-Za-z0-9.-]+:\d+", address) for address in text.split(","))


def _spool(directory: Path, segment_bytes: int, segment_seconds: float) -> Spool:
    try:
        return Spool(directory, segment_bytes=segment_bytes, segment_seconds=segment_seconds)
    except OSError as error:
        raise SettingsError(f"AUDIT_SINK: {directory}: {error.strerror}") from error
