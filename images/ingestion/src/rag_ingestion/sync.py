"""Make a tenant's index equal a source: new, changed and gone documents, and nothing else."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import anyio.to_thread

from rag_common.tenancy import tenant_name
from rag_ingestion.chunking import ChunkSettings
from rag_ingestion.embedder import Embedder, ModelCard
from rag_ingestion.errors import GONE_WITH_IT, SetAside, SuspiciousSourceError
from rag_ingestion.generations import Target, choose, finish, retained
from rag_ingestion.pipeline import Outcome, Pipeline, Sink
from rag_ingestion.plan import Planner
from rag_ingestion.report import OnProgress, Progress, Report
from rag_ingestion.settings import Settings
from rag_ingestion.sources import Source, SourceObject, open_source
from rag_ingestion.workers import Workers
from rag_store import open_store
from rag_store.base import Lease, SyncState, VectorStore


async def ingest(
    source: str,
    tenant: str,
    settings: Settings,
    *,
    store: VectorStore | None = None,
    allow_empty: bool = False,
    progress: OnProgress | None = None,
) -> Report:
    """Sync the index of `tenant` with `source` and say what was done.

    Raises `IngestionError` or `StoreError` when the sync could not complete (`IndexBusyError`
    while another one is at work); what was written until then stays and is not done again by the
    next run.
    """
    tenant_name(tenant)
    opened = store or open_store(settings.vector_db_url, settings.vector_db_credentials_file)
    try:
        listed = open_source(source, settings)
        async with opened.exclusive(tenant) as lease:
            run = Run(listed, tenant, settings, opened, lease, progress)
            return await run.sync(source, allow_empty=allow_empty)
    finally:
        if store is None:
            await opened.close()


class Run:
    """One sync of one tenant."""

    def __init__(
        self,
        source: Source,
        tenant: str,
        settings: Settings,
        store: VectorStore,
        lease: Lease,
        progress: OnProgress | None,
    ) -> None:
        self.source, self.tenant, self.settings, self.store = source, tenant, settings, store
        self.lease, self.progress = lease, progress
        self.items: dict[str, SourceObject] = {}
        self.done = 0
        self.kept: set[str] = set()
        self.taken: dict[str, str] = {}

    async def sync(self, name: str, *, allow_empty: bool) -> Report:
        """List, write, delete, switch over, record: in this order, so that a crash loses nothing."""
        started = time.monotonic()
        self.report = Report(self.tenant, name)
        await self._list()
        url, seconds = self.settings.embedding_url, self.settings.ingest_retry_seconds
        model = self.settings.ingest_embedding_model
        async with Embedder(url, retry_seconds=seconds, model=model) as embedder:
            card = await embedder.card()
            self.target = await self._choose(card)
            self._refuse_suspicious(name, allow_empty)
            with _tokenizer_file(await embedder.tokenizer(card.model)) as file:
                await self._write(embedder, card, file)
        await self._delete()
        await self._finish()
        self.report.seconds = time.monotonic() - started
        return self.report

    async def _list(self) -> None:
        listing = await anyio.to_thread.run_sync(lambda: list(self.source.list()))
        self.items = {item.key: item for item in listing}

    async def _choose(self, card: ModelCard) -> Target:
        return await choose(self.store, self.tenant, card.model)

    def _refuse_suspicious(self, name: str, allow_empty: bool) -> None:
        indexed = len(self.target.indexed)
        if not self.items and indexed and not allow_empty:
            raise SuspiciousSourceError(
                f"source {name} is empty, but {indexed} documents of tenant {self.tenant} are "
                "indexed: nothing was deleted; check the source, or give --allow-empty"
            )

    async def _write(self, embedder: Embedder, card: ModelCard, tokenizer: str) -> None:
        settings = self.settings
        cut = ChunkSettings(
            tokenizer, settings.chunk_tokens, settings.chunk_overlap, card.max_tokens
        )
        workers = Workers(
            cut,
            limit=settings.ingest_workers,
            seconds=settings.ingest_convert_seconds,
            memory_mb=settings.ingest_convert_memory_mb,
        )
        sink = Sink(self.store, self.tenant, self.target.generation.id)
        pipeline = Pipeline(sink, embedder, card, workers, settings)
        limit = settings.max_document_bytes
        planner = Planner(self.source, self.target.known, cut, limit, self.taken)
        works = planner.work(self.items.values(), partial(self._on_done, planner))
        await pipeline.run(works, partial(self._on_done, planner))
        async for pending in retained(self.store, self.tenant, self.target, self.kept):
            await pipeline.write(pending)

    def _on_done(self, planner: Planner, outcome: Outcome) -> None:
        key, report = outcome.key, self.report
        if outcome.error:
            self._set_aside(outcome)
        elif key in planner.unchanged:
            report.unchanged += 1
            self.kept.add(key)
        else:
            self.kept.add(key)
            report.chunks += outcome.chunks
            report.added += key not in self.target.indexed
            report.changed += key in self.target.indexed
        self.done += 1
        if self.progress:
            self.progress(Progress(self.done, len(self.items), key))

    def _set_aside(self, outcome: Outcome) -> None:
        """A document that can no longer be read keeps its last good version in the index."""
        assert outcome.error is not None
        reason, detail = outcome.error.reason, outcome.error.detail
        if reason not in GONE_WITH_IT and outcome.key in self.target.indexed:
            self.kept.add(outcome.key)
            detail += "; the version indexed before stays"
        uri = self.items[outcome.key].uri
        self.report.set_aside.append(SetAside(_printable(uri), reason, detail))

    async def _delete(self) -> None:
        gone = sorted(self.target.known.keys() - self.kept)
        await self.lease.check()
        if gone:
            await self.store.delete(self.tenant, self.target.generation.id, gone)
        self.report.deleted = len(self.target.indexed.keys() - self.kept)
        self.report.set_aside.sort(key=lambda entry: entry.uri)

    async def _finish(self) -> None:
        changed = bool(self.report.written or self.report.deleted)
        await finish(self.store, self.tenant, self.target, self.lease, changed=changed)
        counts = await self.store.counts(self.tenant, self.target.generation.id)
        newest = max((item.modified_at for item in self.items.values()), default=None)
        state = SyncState(datetime.now(UTC), newest, counts.documents, counts.chunks)
        await self.store.record_sync(self.tenant, state)


def _printable(uri: str) -> str:
    return uri.encode("utf-8", "backslashreplace").decode()


@contextmanager
def _tokenizer_file(content: bytes) -> Iterator[str]:
    """The tokenizer as a file, which worker processes can load once each."""
    with tempfile.TemporaryDirectory(prefix="rag-ingest-") as folder:
        path = Path(folder) / "tokenizer.json"
        path.write_bytes(content)
        yield str(path)
