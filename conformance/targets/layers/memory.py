"""Secrets as files that are nowhere but in this process' memory, and gone with it."""

import os
from pathlib import Path


class MemoryFile:
    """A file of mode 0600 without a name on any disk; its `path` also works for child processes."""

    def __init__(self, name: str) -> None:
        self._handle, self._text = os.memfd_create(name), ""
        os.fchmod(self._handle, 0o600)
        self.path = Path(f"/proc/{os.getpid()}/fd/{self._handle}")

    def write(self, text: str) -> Path:
        """Replace the content; the path."""
        if text != self._text:  # who reads it meanwhile may go on
            data = text.encode()
            os.pwrite(self._handle, data, 0)
            os.ftruncate(self._handle, len(data))
            self._text = text
        return self.path
