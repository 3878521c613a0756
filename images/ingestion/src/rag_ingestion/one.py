"""Bring one document in step with its source; the rest of the index is not looked at."""

from collections.abc import Mapping
from dataclasses import replace

import anyio.to_thread

from rag_common.tenancy import tenant_name
from rag_ingestion.embedder import ModelCard
from rag_ingestion.errors import WholeSyncNeededError
from rag_ingestion.generations import Target
from rag_ingestion.report import Report
from rag_ingestion.settings import Settings
from rag_ingestion.sources import open_source
from rag_ingestion.sync import Run, ingest
from rag_store import open_store
from rag_store.base import Document, VectorStore


async def ingest_one(
    source: str, key: str, tenant: str, settings: Settings, *, store: VectorStore | None = None
) -> Report:
    """Write, replace or delete the document `key` of `source`, as the source has it now.

    It holds the tenant's index like a whole sync, which it becomes when there is no index of the
    served model yet. Raises what `ingest` raises; doing it again changes nothing.
    """
    tenant_name(tenant)
    opened = store or open_store(settings.vector_db_url, settings.vector_db_credentials_file)
    try:
        found = open_source(source, settings)
        async with opened.exclusive(tenant) as lease:
            run = OneDocument(found, tenant, settings, opened, lease, None)
            return await run.of(key).sync(source, allow_empty=True)
    except WholeSyncNeededError:
        return await ingest(source, tenant, settings, store=store)
    finally:
        if store is None:
            await opened.close()


class OneDocument(Run):
    """A sync whose source and index have one document; what is recorded of whole syncs stays."""

    key = ""

    def of(self, key: str) -> "OneDocument":
        """Say which one."""
        self.key = key
        return self

    async def _list(self) -> None:
        item = await anyio.to_thread.run_sync(self.source.find, self.key)
        self.items = {item.key: item} if item else {}

    async def _choose(self, card: ModelCard) -> Target:
        target = await super()._choose(card)
        if target.active is None or target.active.id != target.generation.id:
            raise WholeSyncNeededError(
                f"tenant {self.tenant}: no active index of {card.model.name}"
            )
        others = {d.content_hash: k for k, d in target.known.items() if k != self.key}
        self.taken = others
        return replace(target, known=self._own(target.known), indexed=self._own(target.indexed))

    def _own(self, documents: Mapping[str, Document]) -> dict[str, Document]:
        return {key: value for key, value in documents.items() if key == self.key}

    async def _finish(self) -> None:
        """Nothing is switched over, and one document says nothing of the others' freshness."""
