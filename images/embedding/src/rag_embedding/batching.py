"""Dynamic batching: texts of about equal length share a forward pass on the one compute thread.

Requests are served by start-time fair queueing over tokens, so a short query overtakes a bulk
load after at most the running pass, and passes are kept near `TARGET_SECONDS` by the measured
speed (on a CPU a longer pass has no better throughput).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from rag_embedding.backend import Backend, Encoded, Vectors

TARGET_SECONDS = 0.05
INTERACTIVE_TOKENS = 512  # smaller requests are not made to wait for a bulk load's texts
MIN_BATCH_TOKENS = 256
START_RATE = 4000.0  # tokens a second, until measured


class QueueFullError(Exception):
    """Too many inputs wait; `retry_after` is an estimate in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full; try again in {retry_after} s")
        self.retry_after = retry_after


def padded_length(tokens: int) -> int:
    """The length class of a text: multiples of 8, 16 and 32, so that padding stays under 15 %."""
    step = 8 if tokens <= 64 else 16 if tokens <= 128 else 32
    return -(-tokens // step) * step


@dataclass(eq=False, slots=True)
class _Job:
    """A request: its waiting texts by length class, and its place in the fair queue."""

    items: Sequence[Encoded]
    outputs: frozenset[str]
    done: asyncio.Future[list[Vectors]]
    start: float
    interactive: bool
    results: list[Vectors | None]
    waiting: dict[int, deque[int]] = field(default_factory=dict)
    left: int = 0


@dataclass(slots=True)
class BatchStatistics:
    """Told of every pass, for the metrics."""

    on_batch: Callable[[int, int, float], None] = lambda inputs, tokens, seconds: None


class Batcher:
    """Queues texts and runs the backend on them, one pass at a time."""

    def __init__(
        self,
        backend: Backend,
        *,
        max_batch_tokens: int,
        max_queue: int,
        statistics: BatchStatistics | None = None,
    ) -> None:
        self.backend, self.max_batch_tokens, self.max_queue = backend, max_batch_tokens, max_queue
        self.statistics = statistics or BatchStatistics()
        self.depth = 0
        self._rate, self._clock = START_RATE, 0.0
        self._jobs: list[_Job] = []
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="compute")
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to serve; call inside the event loop."""
        self._loop = asyncio.create_task(self._serve())

    async def stop(self) -> None:
        """Stop after the running pass."""
        if self._loop:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        self._thread.shutdown(wait=True)

    @property
    def healthy(self) -> bool:
        """Whether the serving task runs."""
        return self._loop is not None and not self._loop.done()

    def retry_after(self) -> int:
        """Seconds until the waiting texts are done, estimated, at least 1."""
        tokens = sum(n * len(q) for job in self._jobs for n, q in job.waiting.items())
        return max(1, round(tokens / self._rate))

    async def embed(self, items: Sequence[Encoded], outputs: frozenset[str]) -> list[Vectors]:
        """The vectors of `items`, in order; raises `QueueFullError`. Cancel it to give up."""
        if self.depth and self.depth + len(items) > self.max_queue:
            raise QueueFullError(self.retry_after())
        job = self._enqueue(items, outputs)
        try:
            return await job.done
        finally:
            self._forget(job)

    async def run(self, work: Callable[[], list[float] | None]) -> list[float] | None:
        """Run something else on the compute thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _enqueue(self, items: Sequence[Encoded], outputs: frozenset[str]) -> _Job:
        tokens = sum(len(item.ids) for item in items)
        job = _Job(
            items,
            outputs,
            asyncio.get_running_loop().create_future(),
            self._clock,
            tokens <= INTERACTIVE_TOKENS,
            [None] * len(items),
            left=len(items),
        )
        for index, item in enumerate(items):
            job.waiting.setdefault(padded_length(len(item.ids)), deque()).append(index)
        self._jobs.append(job)
        self.depth += len(items)
        self._wake.set()
        return job

    def _forget(self, job: _Job) -> None:
        """Drop what still waits of a job that ended, failed or was abandoned."""
        self.depth -= sum(map(len, job.waiting.values()))
        job.waiting.clear()
        if job in self._jobs:
            self._jobs.remove(job)

    def _pick(self) -> tuple[list[tuple[_Job, int]], frozenset[str], int]:
        """The next batch: the job that has had least, and others' texts of that length class."""
        jobs = sorted((j for j in self._jobs if j.waiting), key=lambda j: j.start)
        lead = jobs[0]
        self._clock = lead.start
        length = next(iter(lead.waiting))
        budget = min(self.max_batch_tokens, max(MIN_BATCH_TOKENS, self._rate * TARGET_SECONDS))
        room = max(1, int(budget // length))
        batch: list[tuple[_Job, int]] = []
        mates = (j for j in jobs if j.interactive == lead.interactive and j.outputs == lead.outputs)
        for job in mates:
            queue = job.waiting.get(length)
            while queue and len(batch) < room:
                batch.append((job, queue.popleft()))
                job.start += length
            if queue is not None and not queue:
                del job.waiting[length]
        self.depth -= len(batch)
        return batch, lead.outputs, length

    async def _serve(self) -> None:
        while True:
            while not any(job.waiting for job in self._jobs):
                self._wake.clear()
                await self._wake.wait()
            await self._pass(*self._pick())

    async def _pass(
        self, batch: list[tuple[_Job, int]], outputs: frozenset[str], length: int
    ) -> None:
        items = [job.items[index] for job, index in batch]
        began = time.perf_counter()
        try:
            vectors = await asyncio.get_running_loop().run_in_executor(
                self._thread, self.backend.embed, items, outputs
            )
        except Exception as error:
            for job, _ in batch:
                if not job.done.done():
                    job.done.set_exception(error)
            return
        self._account(items, length, time.perf_counter() - began)
        for (job, index), vector in zip(batch, vectors, strict=True):
            self._deliver(job, index, vector)

    def _account(self, items: Sequence[Encoded], length: int, seconds: float) -> None:
        if len(items) * length >= MIN_BATCH_TOKENS // 2:  # a short one measures the overhead
            self._rate += 0.2 * (len(items) * length / max(seconds, 1e-6) - self._rate)
        self.statistics.on_batch(len(items), sum(len(item.ids) for item in items), seconds)

    @staticmethod
    def _deliver(job: _Job, index: int, vector: Vectors) -> None:
        job.results[index] = vector
        job.left -= 1
        if not job.left and not job.done.done():
            job.done.set_result([v for v in job.results if v is not None])
