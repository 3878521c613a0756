"""A generation's collections on Milvus, and the alias."""

from rag_store.base import HnswParameters
from rag_store.milvus.client import Milvus, Names
from rag_store.milvus.registry import MilvusRegistry
from rag_store.milvus.schema import create_chunks, create_records
from rag_store.versioned.generations import Generations
from rag_store.versioned.records import DENSE
from rag_store.versioned.registry import NotFoundError


class MilvusGenerations(Generations):
    """The generations of every tenant."""

    def __init__(self, milvus: Milvus, hnsw: HnswParameters) -> None:
        super().__init__(MilvusRegistry(milvus), hnsw)
        self._milvus = milvus

    async def active_id(self, tenant: str) -> str | None:
        """The generation that the alias names."""
        names = Names(tenant)
        try:
            found = await self._milvus.call("describe_alias", names.active)
        except NotFoundError:
            return None
        return str(found["collection_name"]).removeprefix(names.prefix)

    async def _create(self, tenant: str, key: str, dimension: int) -> None:
        names = Names(tenant)
        await create_chunks(self._milvus, names.chunks(key), dimension, self._hnsw)
        await create_records(self._milvus, names.documents(key))

    async def _point(self, tenant: str, key: str) -> None:
        names = Names(tenant)
        verb = "create_alias" if await self.active_id(tenant) is None else "alter_alias"
        await self._milvus.call(verb, names.chunks(key), names.active)

    async def _remove(self, tenant: str, key: str) -> None:
        names = Names(tenant)
        await self._milvus.call("drop_collection", names.chunks(key))
        await self._milvus.call("drop_collection", names.documents(key))

    async def hnsw(self, tenant: str, key: str) -> HnswParameters:
        """The index's parameters. Milvus Lite does not tell them: then those it was made with."""
        made = (await self.record(tenant, key))["hnsw"]
        live = await self._milvus.call("describe_index", Names(tenant).chunks(key), DENSE)
        known = {"M": made["m"], "efConstruction": made["ef_construction"]}
        told = {**(known if self._milvus.embedded else {}), **live, **live.get("params", {})}
        return HnswParameters(int(told["M"]), int(told["efConstruction"]), self._hnsw.ef_search)
