"""The data plane on Qdrant."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from qdrant_client import AsyncQdrantClient, models

from rag_store.base import (
    Counts,
    Document,
    EmbeddedChunk,
    EmbeddingModel,
    Generation,
    Hit,
    HnswParameters,
    SearchMode,
    StoreError,
    SyncState,
    UnknownTenantError,
    Vector,
)
from rag_store.checks import check_chunks, check_model, check_query
from rag_store.qdrant.client import REGISTRY, Names, NotFoundError, translated
from rag_store.qdrant.documents import Documents
from rag_store.qdrant.generations import Generations
from rag_store.qdrant.search import Query, Searcher
from rag_store.versioned import DENSE, document_of

_SYNC = "4c6f6f6b-7570-4b79-8d61-7374a9c0ffee"


class QdrantStore:
    """A `VectorStore` over an open client; `connect` makes one from a URL."""

    def __init__(self, client: AsyncQdrantClient, *, hnsw: HnswParameters | None = None) -> None:
        self._client = client
        self._hnsw = hnsw or HnswParameters()
        self._generations = Generations(client, self._hnsw)
        self._active: dict[str, Generation] = {}  # a guess, verified beside each search

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def ping(self) -> None:
        """Raise `StoreUnavailableError` unless the server answers."""
        with translated():
            await self._client.get_collections()

    async def tenants(self) -> list[str]:
        """Names of the provisioned tenants, sorted."""
        with translated():
            found = (await self._client.get_collections()).collections
        return sorted(c.name.removesuffix(REGISTRY) for c in found if c.name.endswith(REGISTRY))

    async def generations(self, tenant: str) -> list[Generation]:
        """All generations, oldest first."""
        return await self._generations.all(Names(tenant))

    async def active_generation(self, tenant: str) -> Generation:
        """The active one; raises `NoActiveGenerationError`."""
        return await self._generations.active(Names(tenant))

    async def ensure_generation(self, tenant: str, model: EmbeddingModel) -> Generation:
        """The generation of `model`, made if there is none."""
        return await self._generations.create(Names(tenant), model)

    async def activate(self, tenant: str, generation_id: str) -> None:
        """Wait until it is indexed, then point the alias at it in one step."""
        await self._documents(tenant, generation_id)
        await self._generations.settle(Names(tenant), generation_id)
        await self._generations.switch(Names(tenant), generation_id)

    async def drop_generation(self, tenant: str, generation_id: str) -> None:
        """Remove a generation that is not active."""
        await self._generations.drop(Names(tenant), generation_id)

    async def _documents(self, tenant: str, generation_id: str) -> Documents:
        names = Names(tenant)
        await self._generations.find(names, generation_id)
        return Documents(self._client, names, generation_id)

    async def documents(self, tenant: str, generation_id: str) -> dict[str, Document]:
        """Documents of the generation, by doc_id."""
        documents = await self._documents(tenant, generation_id)
        return {item["doc_id"]: document_of(item) async for item in documents.payloads()}

    async def upsert(
        self, tenant: str, generation_id: str, document: Document, chunks: Sequence[EmbeddedChunk]
    ) -> None:
        """Replace the document and its chunks; a reader sees the old or the new."""
        names = Names(tenant)
        found = await self._generations.find(names, generation_id)
        check_chunks(document.doc_id, chunks, found.model.dimension)
        await Documents(self._client, names, generation_id).replace(document, chunks)

    async def delete(self, tenant: str, generation_id: str, doc_ids: Sequence[str]) -> None:
        """Remove documents and their chunks."""
        await (await self._documents(tenant, generation_id)).remove(doc_ids)

    async def optimize(self, tenant: str, generation_id: str) -> None:
        """Remove what dead writers left, and wait until everything is indexed."""
        await (await self._documents(tenant, generation_id)).sweep()
        await self._generations.settle(Names(tenant), generation_id)

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
        names = Names(tenant)
        for _ in range(5):
            guess = self._active.get(tenant) or await self._generations.active(names)
            self._active[tenant] = guess
            try:
                found, valid = await self._attempt(names, guess, query, model_digest)
            except NotFoundError:  # dropped since the guess
                valid = False
            if valid:
                return found
            self._active.pop(tenant, None)
        raise StoreError(f"tenant {tenant!r}: its generations are switched too fast")

    async def _attempt(
        self, names: Names, guess: Generation, query: Query, digest: str | None
    ) -> tuple[list[Hit], bool]:
        searcher = Searcher(self._client, names, guess.id, self._hnsw)
        fits = query.dense is None or query.dense.shape == (guess.model.dimension,)
        if not fits or digest not in (None, guess.model.digest):
            if await self._generations.is_active(names, guess):
                check_model(guess, digest, query.dense)
            return [], False
        found, valid = await asyncio.gather(
            searcher.run(query), self._generations.is_active(names, guess)
        )
        return found, valid

    async def scan(
        self, tenant: str, generation_id: str, *, batch: int = 256
    ) -> AsyncIterator[list[tuple[Document, list[EmbeddedChunk]]]]:
        """Every document with its chunks, `batch` documents at a time."""
        documents = await self._documents(tenant, generation_id)
        ids = sorted([item["doc_id"] async for item in documents.payloads(["doc_id"])])
        for start in range(0, len(ids), batch):
            found = await documents.by_id(ids[start : start + batch])
            if page := await documents.chunks_of([found[key] for key in sorted(found)]):
                yield page

    async def counts(self, tenant: str, generation_id: str) -> Counts:
        """Documents and the chunks that they name."""
        documents = await self._documents(tenant, generation_id)
        chunks = [item["chunks"] async for item in documents.payloads(["chunks"])]
        return Counts(len(chunks), sum(chunks))

    async def hnsw(self, tenant: str, generation_id: str) -> HnswParameters:
        """The collection's parameters, and the ef that searches send."""
        await self._documents(tenant, generation_id)
        with translated():
            info = await self._client.get_collection(Names(tenant).chunks(generation_id))
        vectors = info.config.params.vectors
        own = vectors[DENSE].hnsw_config if isinstance(vectors, dict) else None
        default = info.config.hnsw_config
        m = own.m if own and own.m is not None else default.m
        ef = own.ef_construct if own and own.ef_construct is not None else default.ef_construct
        return HnswParameters(m, ef, self._hnsw.ef_search)

    async def record_sync(self, tenant: str, state: SyncState) -> None:
        """Remember a completed sync."""
        newest = state.newest_modified_at
        payload = {
            "kind": "sync",
            "finished_at": state.finished_at.isoformat(),
            "newest_modified_at": newest.isoformat() if newest else None,
            "documents": state.documents,
            "chunks": state.chunks,
        }
        point = models.PointStruct(id=_SYNC, vector={}, payload=payload)
        with _of(tenant), translated():
            await self._client.upsert(Names(tenant).registry, [point])

    async def sync_state(self, tenant: str) -> SyncState | None:
        """The last completed sync, or None."""
        with _of(tenant), translated():
            points = await self._client.retrieve(Names(tenant).registry, [_SYNC])
        if not points or not (payload := points[0].payload):
            return None
        return _sync_state(payload)


def _sync_state(payload: dict[str, Any]) -> SyncState:
    newest = payload["newest_modified_at"]
    return SyncState(
        datetime.fromisoformat(payload["finished_at"]),
        datetime.fromisoformat(newest) if newest else None,
        payload["documents"],
        payload["chunks"],
    )


@contextmanager
def _of(tenant: str) -> Iterator[None]:
    """A registry that is not there is a tenant that is not there."""
    try:
        yield
    except NotFoundError as error:
        raise UnknownTenantError(f"tenant {tenant!r} has not been provisioned") from error
