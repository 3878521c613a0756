"""Putting cached files where they are used."""

import shutil
from pathlib import Path


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


def write(target: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    partial.touch(mode)
    partial.write_bytes(content)
    partial.replace(target)
