"""What can go wrong: with one document (it is set aside) or with the run (it ends, exit code 1)."""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a document was set aside; the codes are stable."""

    UNREADABLE = "unreadable"
    EMPTY = "empty"
    TOO_LARGE = "too-large"
    ENCRYPTED = "encrypted"
    UNSUPPORTED = "unsupported-type"
    CORRUPT = "corrupt"
    ENCODING = "invalid-encoding"
    DUPLICATE = "duplicate"
    TIMEOUT = "timeout"
    CRASH = "converter-crash"
    MEMORY = "out-of-memory"
    NAME = "invalid-name"


GONE_WITH_IT = frozenset({Reason.EMPTY, Reason.DUPLICATE, Reason.UNSUPPORTED})
"""Reasons that are the document's present content: no earlier version of it stays in the index."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """A document that the index does not have in its present version, and why."""

    uri: str
    reason: Reason
    detail: str


class DocumentError(Exception):
    """This one document cannot be taken; the run goes on without it."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


class IngestionError(Exception):
    """The sync could not complete; the message says what, where and what to do."""


class SourceError(IngestionError):
    """The source cannot be listed or read."""


class SuspiciousSourceError(IngestionError):
    """The source is empty while the index is not: nothing is deleted without being told so."""


class WholeSyncNeededError(IngestionError):
    """One document cannot be synced by itself: the index of the served model is not the active one."""


class EmbeddingError(IngestionError):
    """The embedding service cannot be used."""
