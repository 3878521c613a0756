"""Tenant onboarding on Milvus."""

from rag_store.base import HnswParameters
from rag_store.milvus.client import Milvus, Names
from rag_store.milvus.generations import MilvusGenerations
from rag_store.milvus.schema import create_records


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
        if await MilvusGenerations(self._milvus, HnswParameters()).active_id(tenant):
            await self._milvus.call("drop_alias", names.active)
        mine = await self.remains(tenant)
        for name in sorted(mine, key=lambda name: (name == names.registry, name)):
            await self._milvus.call("drop_collection", name)

    async def remains(self, tenant: str) -> list[str]:
        """The tenant's collections."""
        prefix = Names(tenant).prefix
        found = await self._milvus.call("list_collections")
        return sorted(name for name in found if name.startswith(prefix))
