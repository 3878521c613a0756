"""One file of the spool: append, make durable, roll back what did not become durable."""

import fcntl
import os
import time
from datetime import UTC, datetime
from pathlib import Path

from rag_common.files import sync_directory

PATTERN = "audit-*.jsonl"


class Segment:
    """An append-only file (mode 0600), locked while it is open so that nobody repairs it."""

    def __init__(self, directory: Path, number: int) -> None:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        self.path = directory / f"audit-{stamp}-{os.getpid()}-{number}.jsonl"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._handle = os.open(self.path, flags, 0o600)
        self.size, self.opened = 0, time.monotonic()
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX)
            sync_directory(directory)
        except OSError:
            self.close()
            raise

    def append(self, data: bytes) -> None:
        """Write `data` and make it durable; raises `OSError`, with nothing of it left behind."""
        try:
            self._write_all(data)
            os.fdatasync(self._handle)
        except OSError:
            os.ftruncate(self._handle, self.size)
            raise
        self.size += len(data)

    def _write_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._handle, view) :]

    def close(self) -> None:
        """Release the file, whatever happens; an empty one is removed. Raises `OSError`."""
        try:
            if not self.size:
                self.path.unlink(missing_ok=True)
        finally:
            os.close(self._handle)


def repair(path: Path) -> int:
    """Cut a torn last line off a segment nobody has open; returns the bytes cut."""
    with path.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        end = file.seek(0, os.SEEK_END)
        keep = _last_newline(file.fileno(), end)
        if keep < end:
            file.truncate(keep)
            os.fsync(file.fileno())
        return end - keep


def _last_newline(handle: int, end: int, step: int = 1 << 16) -> int:
    while end > 0:
        start = max(0, end - step)
        if (at := os.pread(handle, end - start, start).rfind(b"\n")) >= 0:
            return start + at + 1
        end = start
    return 0
