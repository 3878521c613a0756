"""Putting cached files where they are used, and telling whether files have changed."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol


class Hash(Protocol):
    """A digest under way."""

    def update(self, data: bytes, /) -> None:
        """Take in more."""


def place(source: Path, target: Path) -> None:
    """`source` as `target`: a hard link on one file system, else a copy; replaces what is there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        partial.hardlink_to(source)
    except OSError:
        shutil.copy2(source, partial)
    partial.replace(target)


def under(folder: Path) -> list[Path]:
    """Every file below `folder`, in order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def feed(total: Hash, folder: Path, paths: Iterable[Path]) -> None:
    """Add name and content of each of the folder's files to `total`."""
    for path in paths:
        total.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes() + b"\0")
