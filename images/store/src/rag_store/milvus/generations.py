"""A tenant's generations on Milvus: records in the registry, collections, and the alias."""

import time
from typing import Any

from rag_store.base import (
    EmbeddingModel,
    Generation,
    GenerationState,
    HnswParameters,
    NoActiveGenerationError,
    StoreError,
    UnknownTenantError,
)
from rag_store.checks import generation_id
from rag_store.milvus.client import Milvus, Names, NotFoundError
from rag_store.milvus.schema import create_chunks, create_records, record
from rag_store.versioned import DENSE

_KIND = "generation-"


class Generations:
    """The generations of every tenant."""

    def __init__(self, milvus: Milvus, hnsw: HnswParameters) -> None:
        self._milvus, self._hnsw = milvus, hnsw

    async def _records(self, names: Names) -> list[dict[str, Any]]:
        try:
            rows = await self._milvus.rows(names.registry)
        except NotFoundError as error:
            raise UnknownTenantError(f"tenant {names.tenant!r} has not been provisioned") from error
        bodies = [row["body"] for row in rows if row["id"].startswith(_KIND)]
        return sorted(bodies, key=lambda body: body["number"])

    async def active_collection(self, names: Names) -> str | None:
        """The collection that the alias names, if there is one."""
        try:
            found = await self._milvus.call("describe_alias", names.active)
        except NotFoundError:
            return None
        return str(found["collection_name"])

    async def all(self, names: Names) -> list[Generation]:
        """All of them, oldest first."""
        records = await self._records(names)
        active = await self.active_collection(names)
        return [_generation(body, names.chunks(body["id"]) == active) for body in records]

    async def active(self, names: Names) -> Generation:
        """The active one; raises `NoActiveGenerationError`."""
        for generation in await self.all(names):
            if generation.state is GenerationState.ACTIVE:
                return generation
        raise NoActiveGenerationError(f"tenant {names.tenant!r} has no active generation")

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
        if key in known:
            if known[key].model.dimension != model.dimension:
                raise StoreError(
                    f"model {model.digest} has dimension {known[key].model.dimension} here"
                )
            return known[key]
        await create_chunks(self._milvus, names.chunks(key), model.dimension, self._hnsw)
        await create_records(self._milvus, names.documents(key))
        body = {
            "id": key,
            "number": time.time_ns(),
            "name": model.name,
            "digest": model.digest,
            "dimension": model.dimension,
            "was_active": False,
            "hnsw": {"M": self._hnsw.m, "efConstruction": self._hnsw.ef_construction},
        }
        await self._put(names, body)
        return await self.find(names, key)

    async def _put(self, names: Names, body: dict[str, Any]) -> None:
        await self._milvus.call("upsert", names.registry, [record(_KIND + body["id"], body)])

    async def switch(self, names: Names, key: str) -> None:
        """Point the alias at it, in one step."""
        await self.find(names, key)
        for body in await self._records(names):
            if body["id"] == key and not body["was_active"]:
                await self._put(names, {**body, "was_active": True})
        known = await self.active_collection(names) is not None
        verb = "alter_alias" if known else "create_alias"
        await self._milvus.call(verb, names.chunks(key), names.active)

    async def drop(self, names: Names, key: str) -> None:
        """Remove it with its collections; raises `StoreError` when it is active or unknown."""
        if (await self.find(names, key)).state is GenerationState.ACTIVE:
            raise StoreError(f"tenant {names.tenant!r}: generation {key!r} is active")
        await self._milvus.call("drop_collection", names.chunks(key))
        await self._milvus.call("drop_collection", names.documents(key))
        await self._milvus.call("delete", names.registry, ids=[_KIND + key])

    async def hnsw(self, names: Names, key: str) -> HnswParameters:
        """The index's parameters. Milvus Lite does not tell them: then those it was made with."""
        made = {body["id"]: body["hnsw"] for body in await self._records(names)}
        if key not in made:
            raise StoreError(f"tenant {names.tenant!r} has no generation {key!r}")
        live = await self._milvus.call("describe_index", names.chunks(key), DENSE)
        told = {**(made[key] if self._milvus.embedded else {}), **live, **live.get("params", {})}
        return HnswParameters(int(told["M"]), int(told["efConstruction"]), self._hnsw.ef_search)


def _generation(body: dict[str, Any], active: bool) -> Generation:
    model = EmbeddingModel(body["name"], body["digest"], body["dimension"])
    passed = GenerationState.RETIRED if body["was_active"] else GenerationState.BUILDING
    return Generation(body["id"], model, GenerationState.ACTIVE if active else passed)
