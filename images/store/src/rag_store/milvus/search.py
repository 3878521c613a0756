"""Both legs of a search. Milvus counts how many chunks hold a term, so IDF is on the query's side."""

import asyncio
from typing import Any

from rag_store.base import Hit, HnswParameters, SearchMode
from rag_store.bm25 import query_terms, query_vector
from rag_store.milvus.client import Milvus
from rag_store.milvus.documents import MilvusDocuments
from rag_store.versioned.records import DENSE, SPARSE
from rag_store.versioned.search import Found, Legs, Query, search


class Searcher:
    """Searches one generation."""

    def __init__(self, milvus: Milvus, documents: MilvusDocuments, hnsw: HnswParameters) -> None:
        self._milvus, self._documents, self._hnsw = milvus, documents, hnsw

    async def run(self, query: Query) -> list[Hit]:
        """The best chunks of the generation, best first."""

        async def find(limit: int) -> Legs:
            dense, lexical = await asyncio.gather(
                self._dense(query, limit), self._lexical(query, limit)
            )
            return {DENSE: dense, SPARSE: lexical}

        return await search(query, find, self._documents.by_id)

    async def _leg(self, field: str, vector: Any, limit: int, parameters: dict[str, Any]) -> Any:
        (hits,) = await self._milvus.call(
            "search",
            self._documents.chunks,
            data=[vector],
            anns_field=field,
            limit=limit,
            search_params={"params": parameters},
            output_fields=["body"],
        )
        return [Found(hit["entity"]["body"], hit["distance"]) for hit in hits]

    async def _dense(self, query: Query, limit: int) -> list[Found]:
        if query.dense is None or query.mode is SearchMode.LEXICAL:
            return []
        # The library has no exact search over an index: an ef of everything comes to the same.
        ef = await self._count() if query.exact else self._hnsw.ef_search
        found: list[Found] = await self._leg(
            DENSE, query.dense.tolist(), limit, {"ef": max(ef, limit)}
        )
        return found

    async def _lexical(self, query: Query, limit: int) -> list[Found]:
        terms = query_terms(query.text)
        if not terms or query.mode is SearchMode.DENSE:
            return []
        conditions = [f"array_contains(terms, {term})" for term in terms]
        total, *counts = await asyncio.gather(*(self._count(c) for c in ("", *conditions)))
        weights = query_vector(query.text, total, dict(zip(terms, counts, strict=True)))
        if not weights:
            return []
        found: list[Found] = await self._leg(SPARSE, weights, limit, {"drop_ratio_search": 0.0})
        return [item for item in found if item.score > 0]

    async def _count(self, condition: str = "") -> int:
        rows = await self._milvus.call(
            "query", self._documents.chunks, filter=condition, output_fields=["count(*)"]
        )
        return int(rows[0]["count(*)"])
