"""The data plane on Qdrant."""

import asyncio

from qdrant_client import AsyncQdrantClient

from rag_store.base import Generation, Hit, HnswParameters
from rag_store.checks import check_model
from rag_store.qdrant.client import REGISTRY, Names, translated
from rag_store.qdrant.documents import QdrantDocuments
from rag_store.qdrant.generations import QdrantGenerations
from rag_store.qdrant.registry import QdrantRegistry
from rag_store.qdrant.search import Searcher
from rag_store.versioned.records import DENSE
from rag_store.versioned.registry import NotFoundError
from rag_store.versioned.search import Query
from rag_store.versioned.store import VersionedStore


class QdrantStore(VersionedStore):
    """A `VectorStore` over an open client; `connect` makes one from a URL."""

    _generations: QdrantGenerations

    def __init__(self, client: AsyncQdrantClient, *, hnsw: HnswParameters | None = None) -> None:
        self._client = client
        self._hnsw = hnsw or HnswParameters()
        self._active: dict[str, Generation] = {}  # a guess, verified beside each search
        super().__init__(QdrantRegistry(client), QdrantGenerations(client, self._hnsw))

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

    def _documents(self, tenant: str, generation_id: str) -> QdrantDocuments:
        return QdrantDocuments(self._client, Names(tenant), generation_id)

    async def activate(self, tenant: str, generation_id: str) -> None:
        """Wait until it is indexed, then point the alias at it in one step."""
        await self._existing(tenant, generation_id)
        await self._generations.settle(tenant, generation_id)
        await self._generations.switch(tenant, generation_id)

    async def optimize(self, tenant: str, generation_id: str) -> None:
        """Remove what dead writers left, and wait until everything is indexed."""
        await (await self._existing(tenant, generation_id)).sweep()
        await self._generations.settle(tenant, generation_id)

    async def _attempt(self, tenant: str, query: Query, digest: str | None) -> list[Hit] | None:
        guess = self._active.get(tenant) or await self._generations.active(tenant)
        self._active[tenant] = guess
        try:
            found = await self._verified(tenant, guess, query, digest)
        except NotFoundError:  # dropped since the guess
            found = None
        if found is None:
            self._active.pop(tenant, None)
        return found

    async def _verified(
        self, tenant: str, guess: Generation, query: Query, digest: str | None
    ) -> list[Hit] | None:
        fits = query.dense is None or query.dense.shape == (guess.model.dimension,)
        if not fits or digest not in (None, guess.model.digest):
            if await self._generations.is_active(tenant, guess):
                check_model(guess, digest, query.dense)
            return None
        documents = self._documents(tenant, guess.id)
        found, valid = await asyncio.gather(
            Searcher(self._client, documents, self._hnsw).run(query),
            self._generations.is_active(tenant, guess),
        )
        return found if valid else None

    async def hnsw(self, tenant: str, generation_id: str) -> HnswParameters:
        """The collection's parameters, and the ef that searches send."""
        await self._existing(tenant, generation_id)
        with translated():
            info = await self._client.get_collection(Names(tenant).chunks(generation_id))
        vectors = info.config.params.vectors
        own = vectors[DENSE].hnsw_config if isinstance(vectors, dict) else None
        default = info.config.hnsw_config
        m = own.m if own and own.m is not None else default.m
        ef = own.ef_construct if own and own.ef_construct is not None else default.ef_construct
        return HnswParameters(m, ef, self._hnsw.ef_search)
