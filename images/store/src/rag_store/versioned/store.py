"""The part of the data plane that engines without transactions have in common."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager

from rag_store.base import (
    Counts,
    Document,
    EmbeddedChunk,
    EmbeddingModel,
    Generation,
    Hit,
    Lease,
    SearchMode,
    StoreError,
    SyncState,
    Vector,
)
from rag_store.checks import check_chunks, check_query
from rag_store.versioned.documents import Documents
from rag_store.versioned.generations import Generations
from rag_store.versioned.lease import exclusive
from rag_store.versioned.records import document_of, sync_of, sync_payload
from rag_store.versioned.registry import NotFoundError, Registry
from rag_store.versioned.search import Query

ATTEMPTS = 5
_SYNC = "sync"


class VersionedStore(ABC):
    """A `VectorStore` but for what its engine does in its own way."""

    def __init__(self, registry: Registry, generations: Generations) -> None:
        self._registry, self._generations = registry, generations

    @abstractmethod
    def _documents(self, tenant: str, generation_id: str) -> Documents:
        """The documents of a generation that is there."""

    @abstractmethod
    async def _attempt(self, tenant: str, query: Query, digest: str | None) -> list[Hit] | None:
        """The hits in the active generation, None when that changed meanwhile."""

    async def _existing(self, tenant: str, generation_id: str) -> Documents:
        await self._generations.record(tenant, generation_id)
        return self._documents(tenant, generation_id)

    async def generations(self, tenant: str) -> list[Generation]:
        """All generations, oldest first."""
        return await self._generations.all(tenant)

    async def active_generation(self, tenant: str) -> Generation:
        """The active one; raises `NoActiveGenerationError`."""
        return await self._generations.active(tenant)

    async def ensure_generation(self, tenant: str, model: EmbeddingModel) -> Generation:
        """The generation of `model`, made if there is none."""
        return await self._generations.ensure(tenant, model)

    async def drop_generation(self, tenant: str, generation_id: str) -> None:
        """Remove a generation that is not active."""
        await self._generations.drop(tenant, generation_id)

    def exclusive(self, tenant: str) -> AbstractAsyncContextManager[Lease]:
        """The index to oneself, by a lease in the registry; raises `IndexBusyError`."""
        return exclusive(self._registry, tenant)

    async def documents(self, tenant: str, generation_id: str) -> dict[str, Document]:
        """Documents of the generation, by doc_id."""
        payloads = await (await self._existing(tenant, generation_id)).payloads()
        return {body["doc_id"]: document_of(body) for body in payloads}

    async def upsert(
        self, tenant: str, generation_id: str, document: Document, chunks: Sequence[EmbeddedChunk]
    ) -> None:
        """Replace the document and its chunks; a reader sees the old or the new."""
        body = await self._generations.record(tenant, generation_id)
        check_chunks(document.doc_id, chunks, body["dimension"])
        await self._documents(tenant, generation_id).replace(document, chunks)

    async def delete(self, tenant: str, generation_id: str, doc_ids: Sequence[str]) -> None:
        """Remove documents and their chunks."""
        await (await self._existing(tenant, generation_id)).remove(doc_ids)

    async def search(
        self,
        tenant: str,
        text: str,
        dense: Vector | None,
        *,
        model_digest: str | None = None,
        mode: SearchMode = SearchMode.HYBRID,
        limit: int = 20,
        exact: bool = False,
        with_late: bool = False,
    ) -> list[Hit]:
        """The best `limit` chunks of the active generation, best first."""
        check_query(mode, dense, limit)
        query = Query(text, dense, mode, limit, exact, with_late)
        for _ in range(ATTEMPTS):
            try:
                found = await self._attempt(tenant, query, model_digest)
            except NotFoundError:  # switched and dropped since
                continue
            if found is not None:
                return found
        raise StoreError(f"tenant {tenant!r}: its generations are switched too fast")

    async def scan(
        self, tenant: str, generation_id: str, *, batch: int = 256
    ) -> AsyncIterator[list[tuple[Document, list[EmbeddedChunk]]]]:
        """Every document with its chunks, `batch` documents at a time."""
        documents = await self._existing(tenant, generation_id)
        ids = [body["doc_id"] for body in await documents.payloads()]
        for start in range(0, len(ids), batch):
            # Read anew: a version that has been replaced since has no chunks any more.
            found = await documents.by_id(ids[start : start + batch])
            if page := await documents.chunks_of([found[key] for key in sorted(found)]):
                yield page

    async def counts(self, tenant: str, generation_id: str) -> Counts:
        """Documents and the chunks that they name."""
        payloads = await (await self._existing(tenant, generation_id)).payloads()
        return Counts(len(payloads), sum(body["chunks"] for body in payloads))

    async def record_sync(self, tenant: str, state: SyncState) -> None:
        """Remember a completed sync."""
        await self._registry.put(tenant, _SYNC, sync_payload(state))

    async def sync_state(self, tenant: str) -> SyncState | None:
        """The last completed sync, or None."""
        body = (await self._registry.read(tenant)).get(_SYNC)
        return None if body is None else sync_of(body)
