"""A file that is read again when it changes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class WatchedFile(Generic[T]):
    """What `parse` makes of the file's text, as it is now."""

    path: Path
    parse: Callable[[str], T]
    _seen: tuple[tuple[int, int, int], T] | None = field(default=None, init=False)

    def current(self) -> T:
        """Raises `OSError`, or what `parse` raises; the file is then read again the next time."""
        seen, self._seen = self._seen, None
        status = self.path.stat()
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        if seen is None or seen[0] != stamp:
            seen = stamp, self.parse(self.path.read_text(encoding="utf-8"))
        self._seen = seen
        return seen[1]
