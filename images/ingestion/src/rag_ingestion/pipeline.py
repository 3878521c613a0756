"""Prepare, embed and store documents at the same time, with bounded queues between the stages."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from rag_ingestion.chunking import Chunked
from rag_ingestion.embedder import Embedder, ModelCard
from rag_ingestion.errors import DocumentError
from rag_ingestion.settings import Settings
from rag_ingestion.workers import Workers
from rag_store.base import Document, EmbeddedChunk, VectorStore, indexed_text

_QUEUE = 32
_LINGER_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Work:
    """A document to be written: its bytes, and its record once the title is known."""

    key: str
    data: bytes
    record: Callable[[str], Document]


@dataclass(slots=True)
class Pending:
    """A document whose chunks are being embedded."""

    document: Document
    chunked: Chunked
    embedded: dict[int, EmbeddedChunk] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every chunk has its vectors."""
        return len(self.embedded) == len(self.chunked.chunks)


Slot = tuple[Pending, int]


@dataclass(frozen=True, slots=True)
class Sink:
    """Where documents go: a generation of a tenant."""

    store: VectorStore
    tenant: str
    generation_id: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one document: its number of chunks, or why it was set aside."""

    key: str
    chunks: int = 0
    error: DocumentError | None = None


class Pipeline:
    """Three stages: prepare (threads and processes), embed (HTTP), store; errors end them all."""

    def __init__(
        self, sink: Sink, embedder: Embedder, card: ModelCard, workers: Workers, settings: Settings
    ) -> None:
        self.sink, self.embedder, self.card = sink, embedder, card
        self.workers, self.settings = workers, settings
        self.in_flight = anyio.Semaphore(settings.embed_in_flight)

    async def run(self, works: AsyncGenerator[Work, None], done: Callable[[Outcome], None]) -> None:
        """Write every document that `works` yields; `done` is told of each as it is finished."""
        try:
            await self._run(works, done)
        except ExceptionGroup as group:  # the stages fail together: the first one is the cause
            raise _first(group) from group

    async def _run(
        self, works: AsyncGenerator[Work, None], done: Callable[[Outcome], None]
    ) -> None:
        to_prepare, prepare = anyio.create_memory_object_stream[Work](1)
        to_embed, embed = anyio.create_memory_object_stream[Pending](_QUEUE)
        to_store, store = anyio.create_memory_object_stream[Pending](_QUEUE)
        async with anyio.create_task_group() as group:
            group.start_soon(_feed, works, to_prepare)
            for _ in range(self.settings.ingest_workers * 2):
                group.start_soon(self._prepare, prepare.clone(), to_embed.clone(), done)
            group.start_soon(self._embed, embed, to_store)
            for _ in range(self.settings.store_in_flight):
                group.start_soon(self._store, store.clone(), done)
            for stream in (prepare, to_embed, store):
                stream.close()

    async def write(self, pending: Pending) -> None:
        """Embed and store one prepared document by itself."""
        size = self.settings.embed_batch
        slots = [(pending, i) for i in range(len(pending.chunked.chunks))]
        for start in range(0, len(slots), size):
            await self._vectors(slots[start : start + size])
        await self._upsert(pending)

    async def _prepare(
        self,
        works: MemoryObjectReceiveStream[Work],
        out: MemoryObjectSendStream[Pending],
        done: Callable[[Outcome], None],
    ) -> None:
        async with works, out:
            async for work in works:
                try:
                    chunked = await self.workers.prepare(work.key, work.data)
                except DocumentError as error:
                    done(Outcome(work.key, error=error))
                else:
                    await out.send(Pending(work.record(chunked.title), chunked))

    async def _embed(
        self, pending: MemoryObjectReceiveStream[Pending], out: MemoryObjectSendStream[Pending]
    ) -> None:
        async with pending, out, anyio.create_task_group() as group:
            async for batch in _batches(pending, self.settings.embed_batch):
                await self.in_flight.acquire()
                group.start_soon(self._embed_batch, batch, out)

    async def _embed_batch(self, batch: list[Slot], out: MemoryObjectSendStream[Pending]) -> None:
        try:
            for pending in await self._vectors(batch):
                await out.send(pending)  # holds the slot: a slow store slows the embedding down
        finally:
            self.in_flight.release()

    async def _vectors(self, batch: list[Slot]) -> list[Pending]:
        """Fill in the batch's vectors; the documents that are complete by it."""
        texts = [indexed_text(p.chunked.title, p.chunked.chunks[i]) for p, i in batch]
        vectors = await self.embedder.embed(self.card, texts)
        complete: list[Pending] = []
        for (pending, i), vector in zip(batch, vectors, strict=True):
            chunk = pending.chunked.chunks[i]
            pending.embedded[i] = EmbeddedChunk(chunk, vector.dense, vector.late)
            if pending.complete:
                complete.append(pending)
        return complete

    async def _store(
        self, pendings: MemoryObjectReceiveStream[Pending], done: Callable[[Outcome], None]
    ) -> None:
        async with pendings:
            async for pending in pendings:
                await self._upsert(pending)
                done(Outcome(pending.document.doc_id, len(pending.embedded)))

    async def _upsert(self, pending: Pending) -> None:
        chunks = [pending.embedded[i] for i in range(len(pending.chunked.chunks))]
        sink = self.sink
        await sink.store.upsert(sink.tenant, sink.generation_id, pending.document, chunks)


async def _feed(works: AsyncGenerator[Work, None], out: MemoryObjectSendStream[Work]) -> None:
    async with out, aclosing(works):
        async for work in works:
            await out.send(work)


async def _batches(
    pendings: MemoryObjectReceiveStream[Pending], size: int
) -> AsyncIterator[list[Slot]]:
    """Chunks of several documents in full batches; a part of one when nothing more comes soon."""
    batch: list[Slot] = []
    while True:
        arrived: Pending | None = None
        try:
            with anyio.move_on_after(_LINGER_SECONDS if batch else None):
                arrived = await pendings.receive()
        except anyio.EndOfStream:
            break
        for i in range(len(arrived.chunked.chunks) if arrived else 0):
            assert arrived is not None
            batch.append((arrived, i))
            if len(batch) == size:
                yield batch
                batch = []
        if arrived is None:
            yield batch
            batch = []
    if batch:
        yield batch


def _first(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
