"""A store in memory that loses, or keeps, what it acknowledged."""

import asyncio
from types import SimpleNamespace


class Store:
    """Documents in memory; `down` refuses, `unflushed` are gone after a crash unless it syncs."""

    def __init__(self):
        self.documents_, self.unflushed = {}, []
        self.down, self.syncs, self.dropped = False, True, []

    async def provision(self, tenant):
        pass

    async def close(self):
        pass

    async def ensure_generation(self, tenant, model):
        return SimpleNamespace(id="g1")

    async def drop_generation(self, tenant, generation):
        self.dropped.append(generation)

    async def documents(self, tenant, generation):
        return dict(self.documents_)

    async def upsert(self, tenant, generation, document, chunks):
        await asyncio.sleep(0.001)
        if self.down:
            raise OSError("refused")
        self.documents_[document.doc_id] = document
        if not self.syncs:
            self.unflushed.append(document.doc_id)

    def crash(self):
        for doc_id in self.unflushed:
            self.documents_.pop(doc_id, None)
        self.unflushed.clear()
