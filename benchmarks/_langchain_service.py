"""`/v1/retrieve` assembled from LangChain's own parts; runs on `requirements/langchain.txt`.

OpenAIEmbeddings -> PGVectorStore with its hybrid search and rank fusion -> a compressor that
reranks by the same MaxSim. Set up for speed: the engine lives in the server's own loop, the query's
token vectors come with its embedding, and nothing is authenticated, traced or audited.
"""

import base64
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import httpx2
import orjson
from fastapi import FastAPI, Response
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.callbacks import Callbacks
from langchain_core.documents import Document
from langchain_core.documents.compressor import BaseDocumentCompressor
from langchain_openai import OpenAIEmbeddings
from langchain_postgres import PGEngine, PGVectorStore
from langchain_postgres.v2.hybrid_search_config import (
    HybridSearchConfig,
    reciprocal_rank_fusion,
)
from langchain_postgres.v2.indexes import HNSWQueryOptions
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import create_async_engine

from rag_common.http import UNIX, serve
from rag_common.late_interaction import maxsim, unpack

TOP_K, TOP_N, EF_SEARCH, POOL_SIZE = 20, 5, 128, 16
METADATA = ["chunk_id", "doc_id", "uri", "title", "late"]
_tokens: ContextVar[list[bytes]] = ContextVar("tokens")


class QueryEmbeddings(OpenAIEmbeddings):
    """Asks for the token vectors too, and remembers queries when `known` is a dictionary."""

    known: dict[str, tuple[list[float], bytes]] | None = None

    async def aembed_query(self, text: str, **kwargs: Any) -> list[float]:
        """The query's vector; its packed token vectors go to the request's context."""
        found = (self.known or {}).get(text) or await self._ask(text)
        if self.known is not None:
            self.known[text] = found
        _tokens.get().append(found[1])
        return found[0]

    async def _ask(self, text: str) -> tuple[list[float], bytes]:
        extra = {"outputs": ["dense", "late"], "input_type": "query"}
        answer = await self.async_client.create(input=[text], model=self.model, extra_body=extra)
        item = answer.data[0]
        return item.embedding, base64.b64decode(item.late)


class MaxSimCompressor(BaseDocumentCompressor):
    """The first documents by MaxSim over the token vectors in their metadata."""

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks = None
    ) -> list[Document]:
        """The best `TOP_N`, each with its score."""
        late = [document.metadata.pop("late") for document in documents]
        scores = maxsim(unpack(_tokens.get()[-1]), late).tolist()
        ranked = sorted(zip(scores, documents, strict=True), key=lambda pair: -pair[0])
        for score, document in ranked:
            document.metadata["score"] = score
        return [document for _, document in ranked[:TOP_N]]

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks = None
    ) -> list[Document]:
        """As `compress_documents`, without the detour over a thread."""
        return self.compress_documents(documents, query, callbacks)


def _hybrid(query: str) -> HybridSearchConfig:
    """One for each request: the store writes the first query it sees into a shared one."""
    return HybridSearchConfig(
        tsv_column="content_tsv",
        fts_query=query,
        fusion_function=reciprocal_rank_fusion,
        primary_top_k=TOP_K,
        secondary_top_k=TOP_K,
    )


def _embeddings() -> QueryEmbeddings:
    socket = os.environ["EMBEDDING_URL"].removeprefix(UNIX)
    transport = httpx2.AsyncHTTPTransport(uds=socket)
    return QueryEmbeddings(
        model=os.environ["EMBEDDING_MODEL"],
        base_url="http://localhost/v1",
        api_key="none",
        check_embedding_ctx_length=False,
        http_async_client=httpx2.AsyncClient(transport=transport),
        known={} if os.environ["QUERY_CACHE"] == "on" else None,
    )


async def _retriever() -> ContextualCompressionRetriever:
    pool = create_async_engine(os.environ["DATABASE_URL"], pool_size=POOL_SIZE, max_overflow=0)
    store = await PGVectorStore.create(
        PGEngine.from_engine(pool),
        _embeddings(),
        "chunk",
        schema_name="langchain",
        metadata_columns=METADATA,
        index_query_options=HNSWQueryOptions(EF_SEARCH),
        hybrid_search_config=_hybrid(""),
    )
    base = store.as_retriever(search_kwargs={"k": TOP_K})
    return ContextualCompressionRetriever(base_compressor=MaxSimCompressor(), base_retriever=base)


class Ask(BaseModel):
    """The body of a request."""

    query: str


def create_app() -> FastAPI:
    """The application; its retriever opens with the server's loop."""
    shared: dict[str, ContextualCompressionRetriever] = {}

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        shared["retriever"] = await _retriever()
        yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/v1/retrieve", response_model=None)
    async def retrieve(ask: Ask) -> Response:
        _tokens.set([])
        found = await shared["retriever"].ainvoke(
            ask.query, hybrid_search_config=_hybrid(ask.query)
        )
        results = [{"text": document.page_content, **document.metadata} for document in found]
        return Response(orjson.dumps({"results": results}), media_type="application/json")

    return app


if __name__ == "__main__":
    serve(create_app(), os.environ["BIND"])
