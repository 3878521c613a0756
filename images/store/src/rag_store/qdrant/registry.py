"""A tenant's registry on Qdrant: points without vectors."""

import uuid
from collections.abc import Mapping
from typing import Any

from qdrant_client import AsyncQdrantClient, models

from rag_store.qdrant.client import Names, translated
from rag_store.versioned.records import Payload
from rag_store.versioned.registry import registry_of

PAGE = 1000
_NAMESPACE = uuid.UUID("0d6f4d5e-9f0a-4f0e-8a86-0d0a2a1c9b11")
_ORDER = models.WriteOrdering.STRONG


class QdrantRegistry:
    """Implements `Registry`."""

    def __init__(self, client: AsyncQdrantClient) -> None:
        self._client = client

    async def read(self, tenant: str) -> dict[str, Payload]:
        """All records by key."""
        found: dict[str, Payload] = {}
        offset: models.ExtendedPointId | None = None
        while True:
            with registry_of(tenant), translated():
                points, offset = await self._client.scroll(
                    Names(tenant).registry, limit=PAGE, offset=offset
                )
            found |= {p.payload["key"]: p.payload["body"] for p in points if p.payload}
            if offset is None:
                return found

    async def put(self, tenant: str, key: str, body: Mapping[str, Any]) -> None:
        """Write one record."""
        payload = {"key": key, "body": dict(body)}
        point = models.PointStruct(id=_point_id(key), vector={}, payload=payload)
        with registry_of(tenant), translated():
            await self._client.upsert(Names(tenant).registry, [point], ordering=_ORDER)

    async def remove(self, tenant: str, key: str) -> None:
        """Remove one record."""
        with registry_of(tenant), translated():
            await self._client.delete(Names(tenant).registry, [_point_id(key)], ordering=_ORDER)


def _point_id(key: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, key))
