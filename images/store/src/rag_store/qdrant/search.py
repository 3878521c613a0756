"""Both legs of a search in one request."""

from typing import Any

from qdrant_client import AsyncQdrantClient, models

from rag_store.base import Hit, HnswParameters, SearchMode
from rag_store.bm25 import query_terms
from rag_store.qdrant.client import translated
from rag_store.qdrant.documents import QdrantDocuments
from rag_store.versioned.records import DENSE, SPARSE
from rag_store.versioned.search import Found, Legs, Query, search


class Searcher:
    """Searches one generation."""

    def __init__(
        self, client: AsyncQdrantClient, documents: QdrantDocuments, hnsw: HnswParameters
    ) -> None:
        self._client, self._documents, self._hnsw = client, documents, hnsw

    async def run(self, query: Query) -> list[Hit]:
        """The best chunks of the generation, best first."""

        async def find(limit: int) -> Legs:
            requests = self._requests(query, limit)
            return await self._legs(requests) if requests else {}

        return await search(query, find, self._documents.by_id)

    def _requests(self, query: Query, limit: int) -> dict[str, models.QueryRequest]:
        """The legs' requests by vector name; a text without terms has no lexical leg.

        Qdrant could fuse them itself, but then says neither the legs' scores nor their ranks.
        """
        payload = True if query.with_late else models.PayloadSelectorExclude(exclude=["late"])
        common: dict[str, Any] = {"limit": limit, "with_payload": payload}
        found = {}
        if query.dense is not None and query.mode is not SearchMode.LEXICAL:
            ef = max(self._hnsw.ef_search, limit)
            found[DENSE] = models.QueryRequest(
                query=query.dense.tolist(),
                using=DENSE,
                params=models.SearchParams(hnsw_ef=ef, exact=query.exact),
                **common,
            )
        terms = query_terms(query.text)
        if terms and query.mode is not SearchMode.DENSE:
            sparse = models.SparseVector(indices=terms, values=[1.0] * len(terms))
            found[SPARSE] = models.QueryRequest(query=sparse, using=SPARSE, **common)
        return found

    async def _legs(self, requests: dict[str, models.QueryRequest]) -> Legs:
        with translated():
            answers = await self._client.query_batch_points(
                self._documents.chunks, list(requests.values())
            )
        return {
            name: [Found(p.payload, p.score) for p in answer.points if p.payload]
            for name, answer in zip(requests, answers, strict=True)
        }
