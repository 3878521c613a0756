"""The documents of one generation and their chunks."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from rag_store.base import Document, EmbeddedChunk
from rag_store.versioned.records import Payload, document_of, document_payload, new_version


class Documents(ABC):
    """The order in which records are written and removed; an engine gives the single steps."""

    @abstractmethod
    async def payloads(self) -> list[Payload]:
        """Every document's record, ordered by doc_id."""

    @abstractmethod
    async def by_id(self, doc_ids: Sequence[str]) -> dict[str, Payload]:
        """The records of those documents that are there, by doc_id."""

    @abstractmethod
    async def sweep(self) -> None:
        """Remove abandoned chunks that no document names."""

    @abstractmethod
    async def _write_chunks(
        self, chunks: Sequence[EmbeddedChunk], title: str, version: str
    ) -> None:
        """Write chunks of a version that is not valid yet."""

    @abstractmethod
    async def _write_record(self, body: dict[str, Any]) -> None:
        """Write a document's record: its version is the valid one from now on."""

    @abstractmethod
    async def _remove_old(self, doc_id: str, version: str, former: str | None) -> None:
        """Remove the document's chunks of version `former`, and abandoned ones but `version`'s."""

    @abstractmethod
    async def _remove_records(self, doc_ids: Sequence[str]) -> None:
        """Remove documents' records."""

    @abstractmethod
    async def _remove_versions(self, versions: Sequence[str]) -> None:
        """Remove the chunks of some versions."""

    @abstractmethod
    async def _read_chunks(self, versions: Sequence[str]) -> list[EmbeddedChunk]:
        """The chunks of some versions with their vectors, in no order."""

    async def replace(self, document: Document, chunks: Sequence[EmbeddedChunk]) -> None:
        """Write the new version, make it valid, remove the former."""
        key, version = document.doc_id, new_version()
        await self._write_chunks(chunks, document.title, version)
        former = (await self.by_id([key])).get(key, {}).get("version")
        await self._write_record(document_payload(document, version, len(chunks)))
        await self._remove_old(key, version, former)

    async def remove(self, doc_ids: Sequence[str]) -> None:
        """Remove documents, then the chunks of the versions they had."""
        known = await self.by_id(doc_ids)
        if known:
            await self._remove_records(list(known))
            await self._remove_versions([body["version"] for body in known.values()])

    async def chunks_of(
        self, documents: Sequence[Payload]
    ) -> list[tuple[Document, list[EmbeddedChunk]]]:
        """The documents of these records with their chunks and vectors, in order."""
        found: dict[str, list[EmbeddedChunk]] = {body["doc_id"]: [] for body in documents}
        for item in await self._read_chunks([body["version"] for body in documents]):
            found[item.chunk.doc_id].append(item)
        for chunks in found.values():
            chunks.sort(key=lambda item: item.chunk.ordinal)
        return [(document_of(body), found[body["doc_id"]]) for body in documents]
