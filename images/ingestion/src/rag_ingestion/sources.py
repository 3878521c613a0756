"""Where documents come from: a directory, or a prefix of an S3 bucket."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from rag_ingestion.errors import SourceError
from rag_ingestion.settings import Settings


@dataclass(frozen=True, slots=True)
class SourceObject:
    """A document as the source lists it; `etag` changes with the content, when the source has one."""

    key: str
    uri: str
    size: int
    modified_at: datetime
    etag: str | None = None


class Source(Protocol):
    """Lists documents in a stable order (by key) and reads one."""

    def list(self) -> Iterator[SourceObject]:
        """Every document; raises `SourceError` when the listing is not complete."""

    def find(self, key: str) -> SourceObject | None:
        """One document, or None when it is not there (or hidden); raises `SourceError` when unknown."""

    def read(self, item: SourceObject, limit: int) -> bytes:
        """The content; raises `DocumentError` for this one, `SourceError` when the source is down."""


def hidden(key: str) -> bool:
    """Whether a part of the path starts with a dot."""
    return any(part.startswith(".") for part in key.split("/"))


def open_source(location: str, settings: Settings) -> Source:
    """The source at a path or `s3://bucket/prefix`; raises `SourceError` for anything else."""
    if location.startswith("s3://"):
        from rag_ingestion.s3 import S3Source  # boto3 takes half a second to import

        return S3Source.from_url(location, settings)
    if "://" in location:
        raise SourceError(f"source {location!r}: give a directory or s3://bucket/prefix")
    from rag_ingestion.directory import DirectorySource

    return DirectorySource(Path(location))
