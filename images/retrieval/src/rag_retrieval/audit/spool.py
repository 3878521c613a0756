"""A durable spool with group commit: one fsync for all records that wait."""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rag_retrieval.audit.segment import PATTERN, Segment, repair
from rag_retrieval.audit.waiting import settle, waiting
from rag_retrieval.errors import AuditError

log = logging.getLogger(__name__)


class _Entry(NamedTuple):
    data: bytes
    done: "asyncio.Future[None]"


class Spool:
    """Appends lines to segments in `directory`; a line's future is done once it is on disk."""

    def __init__(
        self, directory: Path, *, segment_bytes: int = 64 << 20, segment_seconds: float = 300
    ) -> None:
        self.directory = directory
        self._bytes, self._seconds = segment_bytes, segment_seconds
        self._queue: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._segment: Segment | None = None
        self._number = 0
        self._closed = False
        self._prepare()
        self._thread = threading.Thread(target=self._run, name="audit-spool", daemon=True)
        self._thread.start()

    def _prepare(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in sorted(self.directory.glob(PATTERN)):
            if cut := repair(path):
                log.warning("a torn audit line was cut", extra={"segment": path.name, "bytes": cut})

    def submit(self, lines: bytes, key: str = "") -> "asyncio.Future[None]":
        """Queue complete lines, all in one order whatever their `key`; see `Sink`."""
        done = waiting()
        if self._closed or not self._thread.is_alive():
            done.set_exception(AuditError("the spool is closed"))
        else:
            self._queue.put(_Entry(lines, done))
        return done

    async def ready(self) -> None:
        """Raise `AuditError` when nobody writes any more."""
        if not self._thread.is_alive():
            raise AuditError("the writer has ended")

    def close(self) -> None:
        """Write what is queued and release the file."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        open_ = True
        while open_:
            batch, open_ = self._take()
            if batch:
                self._settle(batch, self._commit(batch))
        self._drop_segment()

    def _take(self) -> tuple[list[_Entry], bool]:
        """Everything queued (waits for the first), and whether the spool is still open."""
        batch: list[_Entry] = []
        try:
            entry = self._queue.get()
            while entry is not None:
                batch.append(entry)
                entry = self._queue.get_nowait()
        except queue.Empty:
            return batch, True
        return batch, False

    def _commit(self, batch: Sequence[_Entry]) -> Exception | None:
        try:
            self._writable().append(b"".join(entry.data for entry in batch))
        except Exception as error:  # the writer must outlive it, or every request would wait
            # After a failed fsync the kernel may drop the pages: never trust that file again.
            self._drop_segment()
            return error
        return None

    def _writable(self) -> Segment:
        segment = self._segment
        if segment and self._is_full(segment):
            self._drop_segment()
            segment = None
        if segment is None:
            self._number += 1
            segment = self._segment = Segment(self.directory, self._number)
        return segment

    def _is_full(self, segment: Segment) -> bool:
        old = time.monotonic() - segment.opened >= self._seconds
        return old or segment.size >= self._bytes

    def _drop_segment(self) -> None:
        segment, self._segment = self._segment, None
        try:
            if segment:
                segment.close()
        except OSError as error:  # what is durable stays so; the next segment is a new file
            log.warning("an audit segment was not closed", extra={"reason": str(error)})

    def _settle(self, batch: Sequence[_Entry], error: Exception | None) -> None:
        reason = f"the audit spool cannot be written: {error}" if error else None
        by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        for entry in batch:
            by_loop.setdefault(entry.done.get_loop(), []).append(entry.done)
        for futures in by_loop.values():
            settle(futures, reason)
