"""A tenant's generations on Qdrant: records in the registry, collections, and the alias."""

import asyncio
import time
import uuid
from typing import Any

from qdrant_client import AsyncQdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from rag_store.base import (
    EmbeddingModel,
    Generation,
    GenerationState,
    HnswParameters,
    NoActiveGenerationError,
    StoreError,
    StoreUnavailableError,
    UnknownTenantError,
)
from rag_store.checks import generation_id
from rag_store.qdrant.client import Names, NotFoundError, translated
from rag_store.qdrant.points import where
from rag_store.versioned import DENSE, SPARSE

PAGE = 1000
OPTIMIZE_SECONDS = 3600.0
_NAMESPACE = uuid.UUID("0d6f4d5e-9f0a-4f0e-8a86-0d0a2a1c9b11")
_PAYLOAD_INDEXES = {
    "doc_id": models.PayloadSchemaType.KEYWORD,
    "version": models.PayloadSchemaType.KEYWORD,
    "written_at": models.PayloadSchemaType.INTEGER,
}


class Generations:
    """The generations of every tenant."""

    def __init__(self, client: AsyncQdrantClient, hnsw: HnswParameters) -> None:
        self._client = client
        self._hnsw = hnsw

    async def _records(self, names: Names) -> list[dict[str, Any]]:
        try:
            with translated():
                points, _ = await self._client.scroll(
                    names.registry, scroll_filter=where(kind="generation"), limit=PAGE
                )
        except NotFoundError as error:
            raise UnknownTenantError(f"tenant {names.tenant!r} has not been provisioned") from error
        return sorted((p.payload or {} for p in points), key=lambda payload: payload["number"])

    async def _active_collection(self, names: Names) -> str | None:
        with translated():
            aliases = (await self._client.get_aliases()).aliases
        mine = [a.collection_name for a in aliases if a.alias_name == names.active]
        return mine[0] if mine else None

    async def all(self, names: Names) -> list[Generation]:
        """All of them, oldest first."""
        records = await self._records(names)
        active = await self._active_collection(names)
        return [_generation(record, names, active) for record in records]

    async def active(self, names: Names) -> Generation:
        """The active one; raises `NoActiveGenerationError`."""
        for generation in await self.all(names):
            if generation.state is GenerationState.ACTIVE:
                return generation
        raise NoActiveGenerationError(f"tenant {names.tenant!r} has no active generation")

    async def is_active(self, names: Names, generation: Generation) -> bool:
        """Whether the alias still names this generation."""
        with translated():
            found = await self._client.get_collection_aliases(names.chunks(generation.id))
        return any(alias.alias_name == names.active for alias in found.aliases)

    async def find(self, names: Names, key: str) -> Generation:
        """The generation with this id; raises `StoreError`."""
        for generation in await self.all(names):
            if generation.id == key:
                return generation
        raise StoreError(f"tenant {names.tenant!r} has no generation {key!r}")

    async def create(self, names: Names, model: EmbeddingModel) -> Generation:
        """The generation of `model`, with its collections; another dimension is refused."""
        key = generation_id(model)
        known = {generation.id: generation for generation in await self.all(names)}
        if key not in known:
            await self._create_collections(names, key, model.dimension)
            await self._record(names, key, model)
            return await self.find(names, key)
        if known[key].model.dimension != model.dimension:
            raise StoreError(
                f"model {model.digest} has dimension {known[key].model.dimension} here"
            )
        return known[key]

    async def _record(self, names: Names, key: str, model: EmbeddingModel) -> None:
        payload = {
            "kind": "generation",
            "id": key,
            "number": time.time_ns(),
            "name": model.name,
            "digest": model.digest,
            "dimension": model.dimension,
            "was_active": False,
        }
        point = models.PointStruct(id=_point_id(key), vector={}, payload=payload)
        with translated():
            await self._client.upsert(names.registry, [point])

    async def _create_collections(self, names: Names, key: str, dimension: int) -> None:
        hnsw = models.HnswConfigDiff(m=self._hnsw.m, ef_construct=self._hnsw.ef_construction)
        dense = models.VectorParams(
            size=dimension, distance=models.Distance.COSINE, hnsw_config=hnsw
        )
        # The server's IDF is the formula of rag_store.bm25, over the collection's own chunks.
        sparse = models.SparseVectorParams(modifier=models.Modifier.IDF)
        await self._create_collection(
            names.chunks(key),
            vectors_config={DENSE: dense},
            sparse_vectors_config={SPARSE: sparse},
            on_disk_payload=True,
        )
        await self._create_collection(names.documents(key), vectors_config={})
        with translated():
            for field, schema in _PAYLOAD_INDEXES.items():
                await self._client.create_payload_index(names.chunks(key), field, schema)

    async def _create_collection(self, name: str, **options: Any) -> None:
        with translated():
            if await self._client.collection_exists(name):
                return
            try:
                await self._client.create_collection(name, **options)
            except UnexpectedResponse as error:
                if error.status_code != 409:  # somebody else was faster
                    raise

    async def switch(self, names: Names, key: str) -> None:
        """Point the alias at it, in one step."""
        await self.find(names, key)
        operations: list[models.AliasOperations] = []
        if await self._active_collection(names) is not None:
            operations.append(
                models.DeleteAliasOperation(
                    delete_alias=models.DeleteAlias(alias_name=names.active)
                )
            )
        create = models.CreateAlias(collection_name=names.chunks(key), alias_name=names.active)
        operations.append(models.CreateAliasOperation(create_alias=create))
        with translated():
            await self._client.set_payload(
                names.registry, {"was_active": True}, points=[_point_id(key)]
            )
            await self._client.update_collection_aliases(operations)

    async def drop(self, names: Names, key: str) -> None:
        """Remove it with its collections; raises `StoreError` when it is active or unknown."""
        if (await self.find(names, key)).state is GenerationState.ACTIVE:
            raise StoreError(f"tenant {names.tenant!r}: generation {key!r} is active")
        with translated():
            await self._client.delete_collection(names.chunks(key))
            await self._client.delete_collection(names.documents(key))
            await self._client.delete(names.registry, [_point_id(key)])

    async def settle(self, names: Names, key: str) -> None:
        """Wait until the optimizers have indexed everything."""
        deadline = time.monotonic() + OPTIMIZE_SECONDS
        while True:
            with translated():
                status = (await self._client.get_collection(names.chunks(key))).status
            if status == models.CollectionStatus.GREEN:
                return
            if status == models.CollectionStatus.RED or time.monotonic() > deadline:
                raise StoreUnavailableError(f"Qdrant: {names.chunks(key)} is {status}")
            await asyncio.sleep(0.2)


def _point_id(key: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, key))


def _generation(record: dict[str, Any], names: Names, active: str | None) -> Generation:
    model = EmbeddingModel(record["name"], record["digest"], record["dimension"])
    if names.chunks(record["id"]) == active:
        state = GenerationState.ACTIVE
    else:
        state = GenerationState.RETIRED if record["was_active"] else GenerationState.BUILDING
    return Generation(record["id"], model, state)
