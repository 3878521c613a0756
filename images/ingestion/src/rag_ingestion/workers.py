"""Worker processes: a parser that crashes, hangs or eats memory costs one document, not the run."""

import math
import resource

import anyio.to_process
import anyio.to_thread
from anyio import BrokenWorkerProcess, CapacityLimiter

from rag_ingestion.chunking import Chunked, ChunkSettings
from rag_ingestion.convert import IN_PROCESS, check, suffix
from rag_ingestion.errors import DocumentError, Reason
from rag_ingestion.prepare import prepare

_SMALL_BYTES = 200_000


def limited(key: str, data: bytes, settings: ChunkSettings, memory_bytes: int) -> Chunked:
    """`prepare` under a limit of the address space; `DocumentError` on running out of it."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, resource.RLIM_INFINITY))
    try:
        return prepare(key, data, settings)
    except MemoryError as error:
        raise DocumentError(Reason.MEMORY, "ran out of memory") from error
    except RecursionError as error:
        raise DocumentError(Reason.CORRUPT, "nested too deeply") from error


class Workers:
    """Prepares documents: small plain text in a thread, everything else in a worker process."""

    def __init__(
        self, settings: ChunkSettings, *, limit: int, seconds: float, memory_mb: int
    ) -> None:
        self.settings = settings
        self.task = limited
        self.limiter = CapacityLimiter(limit)
        self.processes = CapacityLimiter(limit)  # never waited for: `limiter` is held by then
        self.seconds = seconds if seconds > 0 else math.inf
        self.memory_bytes = memory_mb << 20

    async def prepare(self, key: str, data: bytes) -> Chunked:
        """Title and chunks; raises `DocumentError`, also for a timeout, a crash or too much memory."""
        try:
            return await self._prepare(key, data)
        except DocumentError:
            raise
        except Exception as error:  # whatever a parser raises: it is this document's, not the run's
            raise DocumentError(Reason.CORRUPT, type(error).__name__) from error

    async def _prepare(self, key: str, data: bytes) -> Chunked:
        check(key, data)
        if len(data) <= _SMALL_BYTES and suffix(key) in IN_PROCESS:
            return await anyio.to_thread.run_sync(prepare, key, data, self.settings)
        async with self.limiter:
            return await self._in_process(key, data)

    async def _in_process(self, key: str, data: bytes) -> Chunked:
        try:
            return await self._once(key, data)
        except BrokenWorkerProcess:  # once more: it may have been the worker's start, not the file
            try:
                return await self._once(key, data)
            except BrokenWorkerProcess as error:
                raise DocumentError(Reason.CRASH, "the converter's process died twice") from error

    async def _once(self, key: str, data: bytes) -> Chunked:
        try:
            with anyio.fail_after(self.seconds):
                return await anyio.to_process.run_sync(
                    self.task,
                    key,
                    data,
                    self.settings,
                    self.memory_bytes,
                    cancellable=True,
                    limiter=self.processes,
                )
        except TimeoutError as error:
            detail = f"not converted within {self.seconds:g} s"
            raise DocumentError(Reason.TIMEOUT, detail) from error
