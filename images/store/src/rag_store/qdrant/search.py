"""Both legs of a search in one request."""

from dataclasses import dataclass
from typing import Any

from qdrant_client import AsyncQdrantClient, models

from rag_store.base import Hit, HnswParameters, SearchMode, Vector
from rag_store.bm25 import query_terms
from rag_store.qdrant.client import Names, translated
from rag_store.qdrant.documents import Documents
from rag_store.versioned import DENSE, SPARSE, Found, Legs, search


@dataclass(frozen=True, slots=True)
class Query:
    """One search; `dense` is None for a lexical one."""

    text: str
    dense: Vector | None
    mode: SearchMode
    limit: int
    exact: bool
    with_late: bool

    def requests(self, hnsw: HnswParameters, limit: int) -> dict[str, models.QueryRequest]:
        """The legs' requests by vector name; a text without terms has no lexical leg.

        Qdrant could fuse them itself, but then says neither the legs' scores nor their ranks.
        """
        payload = True if self.with_late else models.PayloadSelectorExclude(exclude=["late"])
        common: dict[str, Any] = {"limit": limit, "with_payload": payload}
        found = {}
        if self.dense is not None and self.mode is not SearchMode.LEXICAL:
            ef = max(hnsw.ef_search, limit)
            found[DENSE] = models.QueryRequest(
                query=self.dense.tolist(),
                using=DENSE,
                params=models.SearchParams(hnsw_ef=ef, exact=self.exact),
                **common,
            )
        terms = query_terms(self.text)
        if terms and self.mode is not SearchMode.DENSE:
            sparse = models.SparseVector(indices=terms, values=[1.0] * len(terms))
            found[SPARSE] = models.QueryRequest(query=sparse, using=SPARSE, **common)
        return found


class Searcher:
    """Searches one generation."""

    def __init__(
        self, client: AsyncQdrantClient, names: Names, key: str, hnsw: HnswParameters
    ) -> None:
        self._client, self._hnsw = client, hnsw
        self._collection = names.chunks(key)
        self._documents = Documents(client, names, key)

    async def run(self, query: Query) -> list[Hit]:
        """The best chunks of the generation, best first."""

        async def find(limit: int) -> Legs:
            return await self._legs(query, limit)

        return await search(
            find, self._documents.by_id, query.mode, query.limit, late=query.with_late
        )

    async def _legs(self, query: Query, limit: int) -> Legs:
        requests = query.requests(self._hnsw, limit)
        if not requests:
            return {}
        with translated():
            answers = await self._client.query_batch_points(
                self._collection, list(requests.values())
            )
        return {
            name: [Found(p.payload, p.score) for p in answer.points if p.payload]
            for name, answer in zip(requests, answers, strict=True)
        }
