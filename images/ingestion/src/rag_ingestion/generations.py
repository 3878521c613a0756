"""The generation a run writes to: the active one, or a new model's beside it."""

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass

from rag_ingestion.chunking import Chunked
from rag_ingestion.pipeline import Pending
from rag_store.base import (
    Document,
    EmbeddingModel,
    Generation,
    GenerationState,
    Lease,
    VectorStore,
)


@dataclass(frozen=True, slots=True)
class Target:
    """The generation to be written, what it holds (`known`) and what readers see (`indexed`)."""

    generation: Generation
    known: Mapping[str, Document]
    active: Generation | None
    indexed: Mapping[str, Document]


async def choose(store: VectorStore, tenant: str, model: EmbeddingModel) -> Target:
    """The generation of `model`, made when there is none."""
    generation = await store.ensure_generation(tenant, model)
    known = await store.documents(tenant, generation.id)
    everything = await store.generations(tenant)
    active = next((g for g in everything if g.state is GenerationState.ACTIVE), None)
    if active is None or active.id == generation.id:
        return Target(generation, known, active, known)
    return Target(generation, known, active, await store.documents(tenant, active.id))


async def retained(
    store: VectorStore, tenant: str, target: Target, kept: Collection[str]
) -> AsyncIterator[Pending]:
    """Documents that only the active generation still has, to be embedded by the new model."""
    written = await store.documents(tenant, target.generation.id)
    missing = (set(kept) & target.indexed.keys()) - written.keys()
    if not missing or target.active is None:
        return
    async for batch in store.scan(tenant, target.active.id):
        for document, chunks in batch:
            if document.doc_id in missing:
                texts = tuple(embedded.chunk for embedded in chunks)
                yield Pending(document, Chunked(document.title, texts))


async def finish(
    store: VectorStore, tenant: str, target: Target, lease: Lease, *, changed: bool
) -> None:
    """Tune, switch queries over to the generation, and keep one retired one for a way back."""
    generation = target.generation
    if changed:
        await store.optimize(tenant, generation.id)
    await lease.check()
    if target.active is None or target.active.id != generation.id:
        await store.activate(tenant, generation.id)
    everything = await store.generations(tenant)
    retired = [g for g in everything if g.state is GenerationState.RETIRED]
    for old in retired[:-1]:
        await store.drop_generation(tenant, old.id)
