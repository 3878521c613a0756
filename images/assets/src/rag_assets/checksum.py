"""SHA-256 of files, and a receipt that spares hashing an untouched gigabyte at every use."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from rag_assets.errors import ChecksumError

RECEIPT = ".receipt.json"


def sha256(path: Path) -> str:
    """The file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require(path: Path, expected: str) -> None:
    """Remove `path` and raise `ChecksumError` unless its SHA-256 is `expected`."""
    if not path.is_file():
        raise ChecksumError(f"{path}: missing")
    if (actual := sha256(path)) != expected:
        path.unlink()
        raise ChecksumError(f"{path}: SHA-256 is {actual}, declared {expected}; removed, try again")


def _state(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def write_receipt(folder: Path, files: Mapping[str, str]) -> None:
    """Note size and time of the files, which have just been checked."""
    state = {name: _state(folder / name) for name in files}
    (folder / RECEIPT).write_text(json.dumps(state), encoding="utf-8")


def untouched(folder: Path, files: Mapping[str, str]) -> bool:
    """Whether size and time of every file are still those of the receipt."""
    try:
        state = json.loads((folder / RECEIPT).read_text(encoding="utf-8"))
        return all(state[name] == _state(folder / name) for name in files)
    except (OSError, ValueError, KeyError, TypeError):
        return False
