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
        names = Names(tenant)
        with translated():
            found = (await self._client.get_collections()).collections
            mine = {item.name for item in found if item.name.startswith(names.prefix)}
            for name in sorted(mine, key=lambda name: (name == names.registry, name)):
                await self._client.delete_collection(name)
