"""Tenant onboarding on Qdrant."""

from qdrant_client import AsyncQdrantClient

from rag_store.qdrant.client import Names, create_collection, translated


class QdrantAdmin:
    """A `StoreAdmin`. A tenant is the collections whose names begin with `<tenant>__`."""

    def __init__(self, client: AsyncQdrantClient) -> None:
        self._client = client

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def provision(self, tenant: str) -> None:
        """Make the tenant's registry. Idempotent."""
        await create_collection(self._client, Names(tenant).registry, vectors_config={})

    async def deprovision(self, tenant: str) -> None:
        """Remove the tenant's collections, the registry last. Idempotent."""
        registry = Names(tenant).registry
        mine = await self.remains(tenant)
        with translated():
            for name in sorted(mine, key=lambda name: (name == registry, name)):
                await self._client.delete_collection(name)

    async def remains(self, tenant: str) -> list[str]:
        """The tenant's collections."""
        prefix = Names(tenant).prefix
        with translated():
            found = (await self._client.get_collections()).collections
        return sorted(item.name for item in found if item.name.startswith(prefix))
