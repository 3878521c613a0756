"""Writers of a store in the background: what the store acknowledged must be there afterwards."""

import asyncio
import secrets
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType

import numpy as np

from conformance.gate import ProbeError
from conformance.targets.base import Target
from rag_store.base import Chunk, Document, EmbeddedChunk, EmbeddingModel, VectorStore

MODEL = EmbeddingModel("conformance-durable", secrets.token_hex(32), 32)
WRITE_SECONDS = 15.0  # a write that takes longer has failed; it was not acknowledged
PAUSE_SECONDS = 0.2


@dataclass
class Writes:
    """Documents written to a generation of its own in a tenant, from `writers` connections.

    Each writer rests for `rest` seconds after a write.
    `acknowledged` maps the id of each document whose write returned to its content's hash.
    """

    target: Target
    tenant: str
    writers: int
    rest: float = 0.0
    acknowledged: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._generation = asyncio.run(self._prepared())
        self._broken = ""

    def __enter__(self) -> "Writes":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(WRITE_SECONDS * 4)
        if kind is None and (self._broken or self._thread.is_alive()):
            raise ProbeError(f"the writers broke: {self._broken or 'they did not end'}")

    def lost(self) -> list[str]:
        """Ids of acknowledged documents that the store does not have as they were written."""
        found = asyncio.run(self._found())
        return sorted(i for i, content in self.acknowledged.items() if found.get(i) != content)

    def drop(self) -> None:
        """Remove the generation."""
        asyncio.run(self._dropped())

    async def _prepared(self) -> str:
        admin = self.target.store_admin()
        try:
            await admin.provision(self.tenant)
        finally:
            await admin.close()
        store = self.target.store("writer")
        try:
            return (await store.ensure_generation(self.tenant, MODEL)).id
        finally:
            await store.close()

    async def _found(self) -> dict[str, str]:
        store = self.target.store("writer")
        try:
            documents = await store.documents(self.tenant, self._generation)
            return {i: d.content_hash for i, d in documents.items()}
        finally:
            await store.close()

    async def _dropped(self) -> None:
        store = self.target.store("writer")
        try:
            await store.drop_generation(self.tenant, self._generation)
        finally:
            await store.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._write())
        except Exception as error:  # told when the block ends
            self._broken = f"{type(error).__name__}: {error}"

    async def _write(self) -> None:
        store = self.target.store("writer")
        try:
            await asyncio.gather(*(self._writer(store, n) for n in range(self.writers)))
        finally:
            await store.close()

    async def _writer(self, store: VectorStore, writer: int) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            document, chunk = _document(f"{writer}-{number}")
            write = store.upsert(self.tenant, self._generation, document, [chunk])
            try:
                await asyncio.wait_for(write, WRITE_SECONDS)
            except Exception as error:  # refused in whatever way: nothing was acknowledged
                self.refused.append(f"{type(error).__name__}: {str(error)[:200]}")
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                self.acknowledged[document.doc_id] = document.content_hash
                await asyncio.sleep(self.rest)


def _document(name: str) -> tuple[Document, EmbeddedChunk]:
    text = f"{name} {secrets.token_hex(16)}"
    vector = np.random.default_rng().normal(size=MODEL.dimension).astype(np.float32)
    vector /= np.linalg.norm(vector)
    chunk = Chunk(f"{name}#0", name, 0, text, (), 0, len(text), 2)
    document = Document(name, f"probe:{name}", name, text, datetime.now(UTC))
    return document, EmbeddedChunk(chunk, vector)
