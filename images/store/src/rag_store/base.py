"""The vector store interface that pgvector, Qdrant and Milvus implement.

A tenant's index is a set of generations, one for each embedding model; one is active. A new
model is backfilled into a generation beside the active one and switched in one step, so a query
never meets vectors of two models.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]


class StoreError(Exception):
    """The store could not do what was asked; the message says what and why."""


class StoreUnavailableError(StoreError):
    """The store cannot be reached or does not answer in time."""


class UnknownTenantError(StoreError):
    """The tenant has not been provisioned."""


class NoActiveGenerationError(StoreError):
    """The tenant has no active generation: nothing has been indexed and switched on yet."""


class ModelMismatchError(StoreError):
    """The query's vectors come from another model than the generation's."""


class IndexBusyError(StoreError):
    """Another writer has the tenant's index to itself; the message says who."""


class SearchMode(StrEnum):
    """Which legs of the search run."""

    HYBRID = "hybrid"
    DENSE = "dense"
    LEXICAL = "lexical"


class GenerationState(StrEnum):
    """The life of a generation."""

    BUILDING = "building"
    ACTIVE = "active"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class HnswParameters:
    """HNSW build and search parameters; the defaults are the seed's for high recall."""

    m: int = 32
    ef_construction: int = 200
    ef_search: int = 128


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """An embedding model as an index knows it: the digest of its files and its dimension."""

    name: str
    digest: str
    dimension: int


@dataclass(frozen=True, slots=True)
class Generation:
    """One embedding model's index of a tenant."""

    id: str
    model: EmbeddingModel
    state: GenerationState


@dataclass(frozen=True, slots=True)
class Document:
    """A source document as the index records it."""

    doc_id: str
    uri: str
    title: str
    content_hash: str
    modified_at: datetime
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage of a document; `start` and `end` are character offsets in its converted text."""

    chunk_id: str
    doc_id: str
    ordinal: int
    text: str
    heading_path: tuple[str, ...]
    start: int
    end: int
    token_count: int


@dataclass(frozen=True, slots=True)
class EmbeddedChunk:
    """A chunk with its dense vector (L2-normalised, shape (dimension,)) and packed late vectors."""

    chunk: Chunk
    dense: Vector
    late: bytes | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk found by a search.

    `score` is what the mode ranks by: the RRF score (hybrid), the cosine (dense) or BM25
    (lexical). A leg that did not return the chunk leaves its score and rank None; ranks count
    from 1.
    """

    chunk: Chunk
    document_uri: str
    document_title: str
    score: float
    dense_score: float | None = None
    dense_rank: int | None = None
    lexical_score: float | None = None
    lexical_rank: int | None = None
    late: bytes | None = None


@dataclass(frozen=True, slots=True)
class SyncState:
    """The last completed ingestion sync of a tenant: the index equalled the source then."""

    finished_at: datetime
    newest_modified_at: datetime | None
    documents: int
    chunks: int


@dataclass(frozen=True, slots=True)
class Counts:
    """How much a generation holds."""

    documents: int
    chunks: int


class Lease(Protocol):
    """A tenant's index to oneself, inside the block of `VectorStore.exclusive`."""

    async def check(self) -> None:
        """Raise `StoreUnavailableError` when it was lost: another may write by now."""


@runtime_checkable
class VectorStore(Protocol):
    """The data plane. Every method raises `StoreUnavailableError` when the store is down."""

    async def close(self) -> None:
        """Release connections."""

    async def ping(self) -> None:
        """Raise `StoreUnavailableError` unless the store answers."""

    async def tenants(self) -> list[str]:
        """Names of the provisioned tenants, sorted."""

    async def generations(self, tenant: str) -> list[Generation]:
        """All generations of `tenant`, oldest first."""

    async def active_generation(self, tenant: str) -> Generation:
        """The active one; raises `NoActiveGenerationError`."""

    async def ensure_generation(self, tenant: str, model: EmbeddingModel) -> Generation:
        """The generation of `model`, made (state building) if there is none. Idempotent."""

    async def activate(self, tenant: str, generation_id: str) -> None:
        """Make it the one that queries read, in one step; the former one is retired."""

    async def drop_generation(self, tenant: str, generation_id: str) -> None:
        """Remove a generation that is not active."""

    def exclusive(self, tenant: str) -> AbstractAsyncContextManager[Lease]:
        """The index to oneself, as a sync needs it; raises `IndexBusyError`.

        It is free when the block ends, and soon after its process died. Single writes do not ask.
        """

    async def documents(self, tenant: str, generation_id: str) -> dict[str, Document]:
        """Documents whose chunks are wholly in the generation, by doc_id."""

    async def upsert(
        self, tenant: str, generation_id: str, document: Document, chunks: Sequence[EmbeddedChunk]
    ) -> None:
        """Replace the document and all its chunks, so that a reader sees the old or the new.

        A crash in between leaves the document absent from `documents` or as it was before.
        """

    async def delete(self, tenant: str, generation_id: str, doc_ids: Sequence[str]) -> None:
        """Remove documents and their chunks. Unknown ids are ignored."""

    async def optimize(self, tenant: str, generation_id: str) -> None:
        """Bring statistics and indexes up to date after a bulk load."""

    async def search(
        self,
        tenant: str,
        text: str,
        dense: Vector | None,
        *,
        model_digest: str | None = None,
        mode: SearchMode = SearchMode.HYBRID,
        limit: int = 20,
        exact: bool = False,
        with_late: bool = False,
    ) -> list[Hit]:
        """The best `limit` chunks of the active generation, best first.

        `text` feeds the BM25 leg, `dense` (shape (dimension,)) the dense leg; each leg prefetches
        `limit` and hybrid fuses them by RRF (k = 60). `exact` scans instead of using HNSW.
        Raises `ModelMismatchError` when `model_digest` is not the active generation's.
        """

    def scan(
        self, tenant: str, generation_id: str, *, batch: int = 256
    ) -> AsyncIterator[list[tuple[Document, list[EmbeddedChunk]]]]:
        """Every document with its chunks and vectors, in batches ordered by doc_id."""

    async def counts(self, tenant: str, generation_id: str) -> Counts:
        """Documents and chunks in the generation."""

    async def hnsw(self, tenant: str, generation_id: str) -> HnswParameters:
        """The parameters that the live dense index and its searches really use."""

    async def record_sync(self, tenant: str, state: SyncState) -> None:
        """Remember a completed sync."""

    async def sync_state(self, tenant: str) -> SyncState | None:
        """The last completed sync, or None."""


@runtime_checkable
class StoreAdmin(Protocol):
    """Tenant onboarding, with a login of its own that no service holds."""

    async def provision(self, tenant: str) -> None:
        """Make the tenant's own space (schema and roles, or collection). Idempotent."""

    async def deprovision(self, tenant: str) -> None:
        """Remove the tenant with everything it stored. Idempotent."""

    async def remains(self, tenant: str) -> list[str]:
        """What the store still has of the tenant, by name; empty once it is removed."""

    async def close(self) -> None:
        """Release connections."""


def indexed_text(title: str, chunk: Chunk) -> str:
    """What is embedded and indexed for a chunk: title, heading path, then the passage itself."""
    return "\n".join(part for part in (title, " > ".join(chunk.heading_path), chunk.text) if part)
