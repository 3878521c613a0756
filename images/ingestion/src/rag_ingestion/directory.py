"""A directory as a source."""

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from rag_ingestion.errors import DocumentError, Reason, SourceError
from rag_ingestion.sources import SourceObject


class DirectorySource:
    """Regular files below `root`; a link is followed only to a file below `root`."""

    def __init__(self, root: Path) -> None:
        self.given = root
        self.root = root.resolve()

    def list(self) -> Iterator[SourceObject]:
        """Files by key; raises `SourceError` when a directory cannot be read."""
        if not self.root.is_dir():
            raise SourceError(f"source {self.given}: no such directory")
        try:
            paths = sorted(self._walk(self.root))
        except OSError as error:
            raise SourceError(f"source {error.filename}: {error.strerror}") from error
        for path in paths:
            if (item := self._object(path)) is not None:
                yield item

    def find(self, key: str) -> SourceObject | None:
        """The file of that key, found as `list` finds it."""
        return next((item for item in self.list() if item.key == key), None)

    def read(self, item: SourceObject, limit: int) -> bytes:
        """At most `limit` + 1 bytes, so that a file that grew is noticed."""
        try:
            with (self.root / item.key).open("rb") as file:
                return file.read(limit + 1)
        except OSError as error:
            if not self.root.is_dir():
                raise SourceError(f"source {self.given}: gone while being read") from error
            raise DocumentError(Reason.UNREADABLE, str(error.strerror)) from error

    def _walk(self, folder: Path) -> Iterator[str]:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield from self._walk(Path(entry.path))
                else:
                    yield Path(entry.path).relative_to(self.root).as_posix()

    def _object(self, key: str) -> SourceObject | None:
        path = self.root / key
        try:
            target = path.resolve(strict=True)
            info = target.stat()
        except (FileNotFoundError, RuntimeError):  # gone since listed, a dangling or looping link
            return None
        except OSError as error:  # not known to be gone: nothing may be deleted because of it
            if not path.resolve().is_relative_to(self.root):
                return None
            raise SourceError(f"source {path}: {error.strerror}") from error
        if not stat.S_ISREG(info.st_mode) or not target.is_relative_to(self.root):
            return None
        modified = datetime.fromtimestamp(info.st_mtime, UTC)
        return SourceObject(key, path.as_uri(), info.st_size, modified)
