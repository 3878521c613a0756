"""Flagged texts as JSON lines, in a file that only the guard's user can read and in the service's log."""

import errno
import json
import logging
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rag_guard.classifier import Verdict

_TEXT_BYTES = 2048
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FlagLog:
    """Appends to `path` (mode 0600); at `limit` bytes the file becomes `<path>.1` and a new one begins.

    A pod's file goes with the pod: the same record is a line of the log, which the shipper keeps.
    """

    path: Path
    limit: int = 32 * 2**20

    def write(
        self, verdict: Verdict, text: str, *, kind: str, request_id: str, tenant: str, user: str
    ) -> None:
        """Append one record; raises OSError when it cannot be kept."""
        record = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "request_id": request_id,
            "tenant": tenant,
            "user": user,
            "kind": kind,
            "rule": verdict.rule,
            "score": round(verdict.score, 4),
            "text": text.encode("utf-8", "replace")[:_TEXT_BYTES].decode("utf-8", "ignore"),
        }
        line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        self._rotate()
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            if (written := os.write(handle, line)) < len(line):
                raise OSError(errno.ENOSPC, f"only {written} of {len(line)} bytes were written")
        finally:
            os.close(handle)
        _log.warning("flagged", extra={"flag": record})

    def _rotate(self) -> None:
        try:
            full = self.path.stat().st_size >= self.limit
        except FileNotFoundError:
            return
        if full:
            self.path.replace(f"{self.path}.1")
