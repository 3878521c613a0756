"""Reads a spool back, in order of time of the segments."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rag_retrieval.audit.segment import PATTERN
from rag_retrieval.errors import AuditError


def read(directory: Path) -> Iterator[dict[str, Any]]:
    """Every record; a torn last line (not yet durable, so never told) is left out.

    Raises `AuditError` with file and line for a damaged line anywhere else.
    """
    for path in sorted(directory.glob(PATTERN)):
        yield from _records(path)


def _records(path: Path) -> Iterator[dict[str, Any]]:
    *lines, _torn = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            yield json.loads(line)
        except ValueError as error:
            raise AuditError(f"{path.name}:{number}: not a record: {error}") from None
