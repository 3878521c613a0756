"""The data plane and the onboarding on Milvus."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

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
from rag_store.milvus.client import Milvus, Names, NotFoundError
from rag_store.milvus.documents import Documents
from rag_store.milvus.generations import Generations
from rag_store.milvus.schema import create_records, record
from rag_store.milvus.search import Query, Searcher
from rag_store.versioned import document_of

_SYNC = "sync"
_REGISTRY = "__registry"
_PREFIX = "tenant_"


class MilvusStore:
    """A `VectorStore` over a connection; `connect` makes one from a URL."""

    def __init__(self, milvus: Milvus, *, hnsw: HnswParameters | None = None) -> None:
        self._milvus = milvus
        self._hnsw = hnsw or HnswParameters()
        self._generations = Generations(milvus, self._hnsw)

    async def close(self) -> None:
        """Close the connection."""
        await self._milvus.close()

    async def ping(self) -> None:
        """Raise `StoreUnavailableError` unless the server answers."""
        await self._milvus.call("list_collections")

    async def tenants(self) -> list[str]:
        """Names of the provisioned tenants, sorted."""
        found = await self._milvus.call("list_collections")
        mine = [name.removeprefix(_PREFIX) for name in found if name.endswith(_REGISTRY)]
        return sorted(name.removesuffix(_REGISTRY).replace("_", "-") for name in mine)

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
        """Point the alias at it, in one step."""
        await self._generations.switch(Names(tenant), generation_id)

    async def drop_generation(self, tenant: str, generation_id: str) -> None:
        """Remove a generation that is not active."""
        await self._generations.drop(Names(tenant), generation_id)

    async def _documents(self, tenant: str, generation_id: str) -> Documents:
        names = Names(tenant)
        await self._generations.find(names, generation_id)
        return Documents(self._milvus, names, generation_id)

    async def documents(self, tenant: str, generation_id: str) -> dict[str, Document]:
        """Documents of the generation, by doc_id."""
        payloads = await (await self._documents(tenant, generation_id)).payloads()
        return {body["doc_id"]: document_of(body) for body in payloads}

    async def upsert(
        self, tenant: str, generation_id: str, document: Document, chunks: Sequence[EmbeddedChunk]
    ) -> None:
        """Replace the document and its chunks; a reader sees the old or the new."""
        names = Names(tenant)
        found = await self._generations.find(names, generation_id)
        check_chunks(document.doc_id, chunks, found.model.dimension)
        await Documents(self._milvus, names, generation_id).replace(document, chunks)

    async def delete(self, tenant: str, generation_id: str, doc_ids: Sequence[str]) -> None:
        """Remove documents and their chunks."""
        await (await self._documents(tenant, generation_id)).remove(doc_ids)

    async def optimize(self, tenant: str, generation_id: str) -> None:
        """Remove what dead writers left, and seal what has been written so that it is indexed."""
        await (await self._documents(tenant, generation_id)).sweep()
        await self._milvus.call("flush", Names(tenant).chunks(generation_id))

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
        names = Names(tenant)
        query = Query(text, dense, mode, limit, exact, with_late)
        for _ in range(5):
            active = await self._generations.active(names)
            check_model(active, model_digest, dense)
            try:
                return await Searcher(self._milvus, names, active.id, self._hnsw).run(query)
            except NotFoundError:  # switched and dropped since
                continue
        raise StoreError(f"tenant {tenant!r}: its generations are switched too fast")

    async def scan(
        self, tenant: str, generation_id: str, *, batch: int = 256
    ) -> AsyncIterator[list[tuple[Document, list[EmbeddedChunk]]]]:
        """Every document with its chunks, `batch` documents at a time."""
        documents = await self._documents(tenant, generation_id)
        payloads = await documents.payloads()
        for start in range(0, len(payloads), batch):
            yield await documents.chunks_of(payloads[start : start + batch])

    async def counts(self, tenant: str, generation_id: str) -> Counts:
        """Documents and the chunks that they name."""
        payloads = await (await self._documents(tenant, generation_id)).payloads()
        return Counts(len(payloads), sum(body["chunks"] for body in payloads))

    async def hnsw(self, tenant: str, generation_id: str) -> HnswParameters:
        """The index's parameters, and the ef that searches send."""
        return await self._generations.hnsw(Names(tenant), generation_id)

    async def record_sync(self, tenant: str, state: SyncState) -> None:
        """Remember a completed sync."""
        newest = state.newest_modified_at
        body = {
            "finished_at": state.finished_at.isoformat(),
            "newest_modified_at": newest.isoformat() if newest else None,
            "documents": state.documents,
            "chunks": state.chunks,
        }
        with _of(tenant):
            await self._milvus.call("upsert", Names(tenant).registry, [record(_SYNC, body)])

    async def sync_state(self, tenant: str) -> SyncState | None:
        """The last completed sync, or None."""
        with _of(tenant):
            rows = await self._milvus.rows(Names(tenant).registry, f'id == "{_SYNC}"')
        if not rows:
            return None
        body = rows[0]["body"]
        newest = body["newest_modified_at"]
        return SyncState(
            datetime.fromisoformat(body["finished_at"]),
            datetime.fromisoformat(newest) if newest else None,
            body["documents"],
            body["chunks"],
        )


@contextmanager
def _of(tenant: str) -> Iterator[None]:
    """A registry that is not there is a tenant that is not there."""
    try:
        yield
    except NotFoundError as error:
        raise UnknownTenantError(f"tenant {tenant!r} has not been provisioned") from error


class MilvusAdmin:
    """A `StoreAdmin`: a tenant is the collections whose names begin with its prefix."""

    def __init__(self, milvus: Milvus) -> None:
        self._milvus = milvus

    async def close(self) -> None:
        """Close the connection."""
        await self._milvus.close()

    async def provision(self, tenant: str) -> None:
        """Make the tenant's registry. Idempotent."""
        await create_records(self._milvus, Names(tenant).registry)

    async def deprovision(self, tenant: str) -> None:
        """Remove the tenant's collections and alias, the registry last. Idempotent."""
        names = Names(tenant)
        if await Generations(self._milvus, HnswParameters()).active_collection(names):
            await self._milvus.call("drop_alias", names.active)
        found = await self._milvus.call("list_collections")
        mine = [name for name in found if name.startswith(names.prefix)]
        for name in sorted(mine, key=lambda name: (name == names.registry, name)):
            await self._milvus.call("drop_collection", name)
