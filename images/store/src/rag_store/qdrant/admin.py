"""Tenant onboarding on Qdrant."""

from qdrant_client import AsyncQdrantClient
from qdrant_client.http.exceptions import UnexpectedResponse

from rag_store.qdrant.client import REGISTRY, Names, translated


class QdrantAdmin:
    """A `StoreAdmin`. A tenant is the collections whose names begin with `<tenant>__`."""

    def __init__(self, client: AsyncQdrantClient) -> None:
        self._client = client

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def provision(self, tenant: str) -> None:
        """Make the tenant's registry. Idempotent."""
        names = Names(tenant)
        with translated():
            if await self._client.collection_exists(names.registry):
                return
            try:
                await self._client.create_collection(names.registry, vectors_config={})
            except UnexpectedResponse as error:
                if error.status_code != 409:  # somebody else was faster
                    raise

    async def deprovision(self, tenant: str) -> None:
        """Remove the tenant's collections, the registry last. Idempotent."""
        names = Names(tenant)
        prefix = names.registry.removesuffix(REGISTRY) + "__"
        with translated():
            found = (await self._client.get_collections()).collections
            mine = {item.name for item in found if item.name.startswith(prefix)}
            for name in sorted(mine, key=lambda name: (name == names.registry, name)):
                await self._client.delete_collection(name)
