"""Writes documents and says what became of each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import Any

from rag_audit.documents import Document
from rag_audit.elasticsearch import Elasticsearch, later
from rag_audit.errors import UnavailableError

MAX_BYTES = 8 << 20  # of one request; the server takes 100 MB


class Fate(StrEnum):
    """What became of a document."""

    INDEXED = "indexed"
    DUPLICATE = "duplicate"  # it was there already: the log delivers at least once
    POISON = "poison"  # the mapping refuses it, today and tomorrow


@dataclass(frozen=True, slots=True)
class Result:
    """A document's fate, with the server's reason when it was refused."""

    fate: Fate
    reason: str = ""


def write(server: Elasticsearch, documents: Sequence[Document]) -> list[Result]:
    """The fate of each document; raises `UnavailableError` when some must be written again."""
    results: list[Result] = []
    for part in _parts(documents):
        items = server.bulk(list(chain.from_iterable(d.lines for d in part)))
        if len(items) != len(part):
            raise UnavailableError(f"elasticsearch: {len(items)} results for {len(part)} records")
        results += [_result(item) for item in items]
    return results


def _parts(documents: Sequence[Document]) -> Iterator[list[Document]]:
    part: list[Document] = []
    size = 0
    for document in documents:
        if part and size + len(document.source) > MAX_BYTES:
            yield part
            part, size = [], 0
        part.append(document)
        size += len(document.source)
    if part:
        yield part


def _result(item: dict[str, Any]) -> Result:
    status, error = int(item["status"]), item.get("error", {})
    reason = f"{status} {error.get('type', '')}: {error.get('reason', '')}"
    if status < 300:
        return Result(Fate.INDEXED)
    if status == 409:
        return Result(Fate.DUPLICATE)
    if later(status):
        raise UnavailableError(f"elasticsearch: a record was not taken: {reason}")
    return Result(Fate.POISON, reason)
