"""A generation's collections on Qdrant, and the alias."""

import asyncio
import time

from qdrant_client import AsyncQdrantClient, models

from rag_store.base import Generation, HnswParameters, StoreUnavailableError
from rag_store.qdrant.client import Names, create_collection, translated
from rag_store.qdrant.registry import QdrantRegistry
from rag_store.versioned.generations import Generations
from rag_store.versioned.records import DENSE, SPARSE

OPTIMIZE_SECONDS = 3600.0
GRAPH_KB = 100  # vectors of a segment beyond which its graph is built, and asked; less is scanned
_PAYLOAD_INDEXES = {
    "doc_id": models.PayloadSchemaType.KEYWORD,
    "version": models.PayloadSchemaType.KEYWORD,
    "written_at": models.PayloadSchemaType.INTEGER,
}


class QdrantGenerations(Generations):
    """The generations of every tenant."""

    def __init__(self, client: AsyncQdrantClient, hnsw: HnswParameters) -> None:
        super().__init__(QdrantRegistry(client), hnsw)
        self._client = client

    async def active_id(self, tenant: str) -> str | None:
        """The generation that the alias names."""
        names = Names(tenant)
        with translated():
            aliases = (await self._client.get_aliases()).aliases
        mine = [a.collection_name for a in aliases if a.alias_name == names.active]
        return mine[0].removeprefix(names.prefix) if mine else None

    async def is_active(self, tenant: str, generation: Generation) -> bool:
        """Whether the alias still names this generation."""
        names = Names(tenant)
        with translated():
            found = await self._client.get_collection_aliases(names.chunks(generation.id))
        return any(alias.alias_name == names.active for alias in found.aliases)

    async def _create(self, tenant: str, key: str, dimension: int) -> None:
        names = Names(tenant)
        hnsw = models.HnswConfigDiff(
            m=self._hnsw.m, ef_construct=self._hnsw.ef_construction, full_scan_threshold=GRAPH_KB
        )
        dense = models.VectorParams(
            size=dimension, distance=models.Distance.COSINE, hnsw_config=hnsw
        )
        # The server's IDF is the formula of rag_store.bm25, over the collection's own chunks.
        sparse = models.SparseVectorParams(modifier=models.Modifier.IDF)
        await create_collection(
            self._client,
            names.chunks(key),
            vectors_config={DENSE: dense},
            sparse_vectors_config={SPARSE: sparse},
            optimizers_config=models.OptimizersConfigDiff(indexing_threshold=GRAPH_KB),
            on_disk_payload=True,
        )
        await create_collection(self._client, names.documents(key), vectors_config={})
        with translated():
            for field, schema in _PAYLOAD_INDEXES.items():
                await self._client.create_payload_index(names.chunks(key), field, schema)

    async def _point(self, tenant: str, key: str) -> None:
        names = Names(tenant)
        operations: list[models.AliasOperations] = []
        if await self.active_id(tenant) is not None:
            former = models.DeleteAlias(alias_name=names.active)
            operations.append(models.DeleteAliasOperation(delete_alias=former))
        create = models.CreateAlias(collection_name=names.chunks(key), alias_name=names.active)
        operations.append(models.CreateAliasOperation(create_alias=create))
        with translated():
            await self._client.update_collection_aliases(operations)

    async def _remove(self, tenant: str, key: str) -> None:
        names = Names(tenant)
        with translated():
            await self._client.delete_collection(names.chunks(key))
            await self._client.delete_collection(names.documents(key))

    async def settle(self, tenant: str, key: str) -> None:
        """Wait until the optimizers have indexed everything."""
        chunks = Names(tenant).chunks(key)
        deadline = time.monotonic() + OPTIMIZE_SECONDS
        while True:
            with translated():
                status = (await self._client.get_collection(chunks)).status
            if status == models.CollectionStatus.GREEN:
                return
            if status == models.CollectionStatus.RED or time.monotonic() > deadline:
                raise StoreUnavailableError(f"Qdrant: {chunks} is {status}")
            await asyncio.sleep(0.2)
