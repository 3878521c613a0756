"""Decide for each listed document: unchanged, to be written, or set aside."""

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from functools import partial

import anyio.to_thread

from rag_ingestion.chunking import ChunkSettings
from rag_ingestion.convert import supported
from rag_ingestion.errors import DocumentError, Reason
from rag_ingestion.pipeline import Outcome, Work
from rag_ingestion.prepare import recipe
from rag_ingestion.sources import Source, SourceObject
from rag_store.base import Document

_READ_AHEAD = 8
_UTF8_BYTES = 1000

Content = tuple[SourceObject, bytes, str, DocumentError | None]


class Planner:
    """Reads the source a few documents ahead, in order, and yields the work there is.

    `taken` has the digests of documents that are not among the items, with their keys.
    """

    def __init__(
        self,
        source: Source,
        known: Mapping[str, Document],
        settings: ChunkSettings,
        limit: int,
        taken: Mapping[str, str] | None = None,
    ) -> None:
        self.source, self.known, self.settings, self.limit = source, known, settings, limit
        self.unchanged: set[str] = set()
        self._first: dict[str, str] = dict(taken or {})

    async def work(
        self, items: Iterable[SourceObject], done: Callable[[Outcome], None]
    ) -> AsyncGenerator[Work, None]:
        """Documents to be written; `done` is told of those that need no writing."""
        async with aclosing(self._ahead(items)) as contents:
            async for item, data, digest, error in contents:
                error = error or self._duplicate(item.key, digest)
                if error:
                    done(Outcome(item.key, error=error))
                elif self._is_unchanged(item, digest):
                    self.unchanged.add(item.key)
                    done(Outcome(item.key))
                else:
                    yield Work(item.key, data, partial(self._record, item, digest))

    async def _ahead(self, items: Iterable[SourceObject]) -> AsyncGenerator[Content, None]:
        reading: deque[asyncio.Task[Content]] = deque()
        try:
            for item in items:
                reading.append(asyncio.create_task(self._content(item)))
                if len(reading) == _READ_AHEAD:
                    yield await reading.popleft()
            while reading:
                yield await reading.popleft()
        finally:
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)

    async def _content(self, item: SourceObject) -> Content:
        try:
            self._check(item)
            if vouched := self._by_etag(item):
                return item, b"", vouched, None
            data, digest = await anyio.to_thread.run_sync(self._read, item)
        except DocumentError as error:
            return item, b"", "", error
        return item, data, digest, None

    def _check(self, item: SourceObject) -> None:
        try:
            too_long = len(item.key.encode()) > _UTF8_BYTES
        except UnicodeEncodeError:
            raise DocumentError(Reason.NAME, "the name is not UTF-8") from None
        if too_long or "\0" in item.key:
            raise DocumentError(Reason.NAME, f"the name is longer than {_UTF8_BYTES} bytes")
        supported(item.key)
        if item.size > self.limit:
            raise self._too_large(item.size)

    def _by_etag(self, item: SourceObject) -> str | None:
        """The digest without reading, when the source vouches that the content is the same."""
        known = self.known.get(item.key)
        if known is None or item.etag is None:
            return None
        same = known.metadata.get("etag") == item.etag
        same = same and known.metadata.get("recipe") == recipe(item.key, self.settings)
        return known.content_hash if same else None

    def _read(self, item: SourceObject) -> tuple[bytes, str]:
        data = self.source.read(item, self.limit)
        if len(data) > self.limit:
            raise self._too_large(len(data))
        digest = hashlib.sha256(recipe(item.key, self.settings).encode())
        digest.update(data)
        return data, digest.hexdigest()

    def _too_large(self, size: int) -> DocumentError:
        limit = f"INGEST_MAX_DOCUMENT_MB is {self.limit / 1e6:g}"
        return DocumentError(Reason.TOO_LARGE, f"{size / 1e6:.1f} MB; {limit}")

    def _duplicate(self, key: str, digest: str) -> DocumentError | None:
        first = self._first.setdefault(digest, key)
        if first == key:
            return None
        return DocumentError(Reason.DUPLICATE, f"the same content as {first}")

    def _is_unchanged(self, item: SourceObject, digest: str) -> bool:
        known = self.known.get(item.key)
        return known is not None and (known.content_hash, known.uri) == (digest, item.uri)

    def _record(self, item: SourceObject, digest: str, title: str) -> Document:
        metadata = {"size": item.size, "recipe": recipe(item.key, self.settings)}
        if item.etag is not None:
            metadata["etag"] = item.etag
        return Document(item.key, item.uri, title, digest, item.modified_at, metadata)
