"""The data plane on Milvus."""

from rag_store.base import Hit, HnswParameters
from rag_store.checks import check_model
from rag_store.milvus.client import PREFIX, REGISTRY, Milvus, Names
from rag_store.milvus.documents import MilvusDocuments
from rag_store.milvus.generations import MilvusGenerations
from rag_store.milvus.registry import MilvusRegistry
from rag_store.milvus.search import Searcher
from rag_store.versioned.search import Query
from rag_store.versioned.store import VersionedStore


class MilvusStore(VersionedStore):
    """A `VectorStore` over a connection; `connect` makes one from a URL."""

    _generations: MilvusGenerations

    def __init__(self, milvus: Milvus, *, hnsw: HnswParameters | None = None) -> None:
        self._milvus = milvus
        self._hnsw = hnsw or HnswParameters()
        super().__init__(MilvusRegistry(milvus), MilvusGenerations(milvus, self._hnsw))

    async def close(self) -> None:
        """Close the connection."""
        await self._milvus.close()

    async def ping(self) -> None:
        """Raise `StoreUnavailableError` unless the server answers."""
        await self._milvus.call("list_collections")

    async def tenants(self) -> list[str]:
        """Names of the provisioned tenants, sorted."""
        found = await self._milvus.call("list_collections")
        mine = [name.removeprefix(PREFIX) for name in found if name.endswith(REGISTRY)]
        return sorted(name.removesuffix(REGISTRY).replace("_", "-") for name in mine)

    def _documents(self, tenant: str, generation_id: str) -> MilvusDocuments:
        return MilvusDocuments(self._milvus, Names(tenant), generation_id)

    async def activate(self, tenant: str, generation_id: str) -> None:
        """Point the alias at it, in one step."""
        await self._generations.switch(tenant, generation_id)

    async def optimize(self, tenant: str, generation_id: str) -> None:
        """Remove what dead writers left, and seal what has been written so that it is indexed."""
        await (await self._existing(tenant, generation_id)).sweep()
        await self._milvus.call("flush", Names(tenant).chunks(generation_id))

    async def _attempt(self, tenant: str, query: Query, digest: str | None) -> list[Hit] | None:
        active = await self._generations.active(tenant)
        check_model(active, digest, query.dense)
        documents = self._documents(tenant, active.id)
        return await Searcher(self._milvus, documents, self._hnsw).run(query)

    async def hnsw(self, tenant: str, generation_id: str) -> HnswParameters:
        """The index's parameters, and the ef that searches send."""
        return await self._generations.hnsw(tenant, generation_id)
