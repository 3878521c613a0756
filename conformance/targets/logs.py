"""JSON-lines logs that grow while they are read."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from conformance.gate import ProbeError


def _lines(file: Path) -> Iterator[str]:
    text = file.read_text(encoding="utf-8")
    complete, _, _ = text.rpartition("\n")
    yield from (line for line in complete.split("\n") if line.strip())


def read(file: Path | None, what: str) -> list[dict[str, Any]]:
    """All complete records of `file`; a last line without its newline is still being written.

    Raises `ProbeError` when there is no such log or a line is not JSON.
    """
    if file is None:
        raise ProbeError(f"the target names no {what}")
    records: list[dict[str, Any]] = []
    try:
        for number, line in enumerate(_lines(file), 1):
            try:
                records.append(json.loads(line))
            except ValueError as error:
                raise ProbeError(f"{what} {file}:{number}: not JSON ({error})") from error
    except OSError as error:
        raise ProbeError(f"{what} {file}: {error.strerror}") from error
    return records


def read_folder(folder: Path | None, pattern: str, what: str) -> list[dict[str, Any]]:
    """All records of the files in `folder` that match `pattern`, in name order."""
    if folder is None or not folder.is_dir():
        raise ProbeError(f"{what}: {folder or 'not named by the target'}: no such folder")
    return [record for file in sorted(folder.glob(pattern)) for record in read(file, what)]
