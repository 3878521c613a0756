"""Flagged texts as JSON lines in a file that only the guard's user can read."""

import errno
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rag_guard.classifier import Verdict

_TEXT_BYTES = 2048


@dataclass(frozen=True, slots=True)
class FlagLog:
    """Appends to `path` (mode 0600), opened for each record so that it can be rotated."""

    path: Path

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
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            if (written := os.write(handle, line)) < len(line):
                raise OSError(errno.ENOSPC, f"only {written} of {len(line)} bytes were written")
        finally:
            os.close(handle)
