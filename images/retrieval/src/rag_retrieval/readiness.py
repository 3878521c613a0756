"""Whether the service can retrieve. The LLM does not count: it may be scaled to zero."""

import asyncio
from collections.abc import Awaitable

from rag_retrieval.audit import Sink
from rag_retrieval.embedding_client import EmbeddingClients
from rag_retrieval.errors import RetrievalError
from rag_retrieval.guard import PassageGuard
from rag_store.base import StoreError, VectorStore

SECONDS = 2.0


async def _reason(name: str, check: Awaitable[None]) -> str | None:
    try:
        async with asyncio.timeout(SECONDS):
            await check
    except TimeoutError:
        return f"{name}: no answer within {SECONDS:g} s"
    except (RetrievalError, StoreError) as error:
        return f"{name}: {error}"
    return None


async def not_ready(
    store: VectorStore, embedder: EmbeddingClients, guard: PassageGuard, sink: Sink
) -> str | None:
    """What cannot be reached or does not work, or None."""
    reasons = await asyncio.gather(
        _reason("store", store.ping()),
        _reason("embedder", embedder.ready(SECONDS)),
        _reason("guard", guard.ready(SECONDS)),
        _reason("audit", sink.ready()),
    )
    return "; ".join(reason for reason in reasons if reason) or None
