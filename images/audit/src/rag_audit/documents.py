"""A record of the log as a document of the index: which index, which id."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from rag_audit.errors import PoisonError

PREFIX, DATED = "audit-", "%Y.%m.%d"
EVENTS = frozenset({"intent", "completion"})
_FIRST_YEAR = 2020
_AHEAD = timedelta(days=1)
_MAX_REQUEST_ID = 256

Clock = Callable[[], datetime]


def now() -> datetime:
    """The present moment, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Document:
    """What is written, and when the record says that it happened."""

    index: str
    id: str
    source: bytes
    event: str
    time: datetime

    @property
    def lines(self) -> tuple[bytes, bytes]:
        """Action and source of a bulk request; `create` never overwrites."""
        action = {"create": {"_index": self.index, "_id": self.id}}
        return orjson.dumps(action), self.source


def document(value: bytes | None, clock: Clock = now) -> Document:
    """The document of one message; raises `PoisonError` with the reason.

    The id has the record's digest in it: a record that is delivered twice is one document, and
    another record under the same request id (which callers may choose) is not lost as its duplicate.
    """
    record = _parsed(value)
    request_id, event = record.get("request_id"), record.get("event")
    if not isinstance(request_id, str) or not 0 < len(request_id) <= _MAX_REQUEST_ID:
        raise PoisonError(f"request_id: expected 1 to {_MAX_REQUEST_ID} characters")
    if event not in EVENTS:
        raise PoisonError("event: expected intent or completion")
    time = _time(record.get("time"), clock)
    source = orjson.dumps(record)
    digest = hashlib.sha256(source).hexdigest()[:16]
    name = f"{request_id}.{event}.{digest}"
    if len(name.encode()) > 512:  # the server's limit, which would fail the whole bulk
        raise PoisonError("request_id: too long as UTF-8")
    return Document(index_of(time), name, source, event, time)


def index_of(time: datetime) -> str:
    """The index of the day, in UTC."""
    return PREFIX + time.astimezone(UTC).strftime(DATED)


def day_of(index: str) -> datetime | None:
    """The day of a dated index, or None when it is none of ours."""
    try:
        day = datetime.strptime(index.removeprefix(PREFIX), DATED).replace(tzinfo=UTC)
    except ValueError:
        return None
    return day if index_of(day) == index else None


def _parsed(value: bytes | None) -> dict[str, Any]:
    try:
        record = orjson.loads(value or b"")
    except ValueError as error:
        raise PoisonError(f"not JSON: {error}") from None
    if not isinstance(record, dict):
        raise PoisonError("not a JSON object")
    return record


def _time(text: object, clock: Clock) -> datetime:
    try:
        time = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise PoisonError("time: expected ISO 8601 with an offset")
    if time.year < _FIRST_YEAR or time > clock() + _AHEAD:
        raise PoisonError(f"time: {text} is not a time of this system")
    return time
