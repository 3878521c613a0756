"""A tenant's registry on Milvus."""

from collections.abc import Mapping
from typing import Any

from rag_store.milvus.client import Milvus, Names
from rag_store.milvus.schema import record
from rag_store.versioned.records import Payload
from rag_store.versioned.registry import registry_of


class MilvusRegistry:
    """Implements `Registry`."""

    def __init__(self, milvus: Milvus) -> None:
        self._milvus = milvus

    async def read(self, tenant: str) -> dict[str, Payload]:
        """All records by key."""
        with registry_of(tenant):
            rows = await self._milvus.rows(Names(tenant).registry)
        return {row["id"]: row["body"] for row in rows}

    async def put(self, tenant: str, key: str, body: Mapping[str, Any]) -> None:
        """Write one record."""
        with registry_of(tenant):
            await self._milvus.call("upsert", Names(tenant).registry, [record(key, dict(body))])

    async def remove(self, tenant: str, key: str) -> None:
        """Remove one record."""
        with registry_of(tenant):
            await self._milvus.call("delete", Names(tenant).registry, ids=[key])
