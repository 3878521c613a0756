"""A tenant's generations: records in the registry, two collections each, and the alias."""

import time
from abc import ABC, abstractmethod
from dataclasses import asdict
from typing import Any

from rag_store.base import (
    EmbeddingModel,
    Generation,
    GenerationState,
    HnswParameters,
    NoActiveGenerationError,
    StoreError,
)
from rag_store.checks import generation_id
from rag_store.versioned.records import Payload
from rag_store.versioned.registry import Registry

_KIND = "generation-"


class Generations(ABC):
    """The generations of every tenant."""

    def __init__(self, registry: Registry, hnsw: HnswParameters) -> None:
        self._registry, self._hnsw = registry, hnsw

    @abstractmethod
    async def active_id(self, tenant: str) -> str | None:
        """The generation that the alias names, if there is an alias."""

    @abstractmethod
    async def _create(self, tenant: str, key: str, dimension: int) -> None:
        """Make its collections. Idempotent."""

    @abstractmethod
    async def _remove(self, tenant: str, key: str) -> None:
        """Remove its collections."""

    @abstractmethod
    async def _point(self, tenant: str, key: str) -> None:
        """Point the alias at its chunks, in one step."""

    async def _records(self, tenant: str) -> list[Payload]:
        found = await self._registry.read(tenant)
        mine = [body for key, body in found.items() if key.startswith(_KIND)]
        return sorted(mine, key=lambda body: body["number"])

    async def record(self, tenant: str, key: str) -> Payload:
        """The record of one; raises `StoreError` for an unknown one."""
        for body in await self._records(tenant):
            if body["id"] == key:
                return body
        raise StoreError(f"tenant {tenant!r} has no generation {key!r}")

    async def all(self, tenant: str) -> list[Generation]:
        """All of them, oldest first."""
        records = await self._records(tenant)
        active = await self.active_id(tenant)
        return [_generation(body, active) for body in records]

    async def active(self, tenant: str) -> Generation:
        """The active one; raises `NoActiveGenerationError`."""
        for generation in await self.all(tenant):
            if generation.state is GenerationState.ACTIVE:
                return generation
        raise NoActiveGenerationError(f"tenant {tenant!r} has no active generation")

    async def find(self, tenant: str, key: str) -> Generation:
        """The generation with this id; raises `StoreError`."""
        return _generation(await self.record(tenant, key), await self.active_id(tenant))

    async def ensure(self, tenant: str, model: EmbeddingModel) -> Generation:
        """The generation of `model`, with its collections; another dimension is refused."""
        key = generation_id(model)
        known = {generation.id: generation for generation in await self.all(tenant)}
        if key not in known:
            await self._create(tenant, key, model.dimension)
            await self._put(tenant, _record(key, model, self._hnsw))
            return await self.find(tenant, key)
        if known[key].model.dimension != model.dimension:
            raise StoreError(
                f"model {model.digest} has dimension {known[key].model.dimension} here"
            )
        return known[key]

    async def _put(self, tenant: str, body: Payload) -> None:
        await self._registry.put(tenant, _KIND + body["id"], body)

    async def switch(self, tenant: str, key: str) -> None:
        """Make it the active one, in one step."""
        body = await self.record(tenant, key)
        if not body["was_active"]:
            await self._put(tenant, {**body, "was_active": True})
        await self._point(tenant, key)

    async def drop(self, tenant: str, key: str) -> None:
        """Remove it with its collections; raises `StoreError` when it is active or unknown."""
        if (await self.find(tenant, key)).state is GenerationState.ACTIVE:
            raise StoreError(f"tenant {tenant!r}: generation {key!r} is active")
        await self._remove(tenant, key)
        await self._registry.remove(tenant, _KIND + key)


def _record(key: str, model: EmbeddingModel, hnsw: HnswParameters) -> dict[str, Any]:
    return {
        "id": key,
        "number": time.time_ns(),
        **asdict(model),
        "hnsw": asdict(hnsw),
        "was_active": False,
    }


def _generation(body: Payload, active: str | None) -> Generation:
    model = EmbeddingModel(body["name"], body["digest"], body["dimension"])
    if body["id"] == active:
        return Generation(body["id"], model, GenerationState.ACTIVE)
    passed = GenerationState.RETIRED if body["was_active"] else GenerationState.BUILDING
    return Generation(body["id"], model, passed)
