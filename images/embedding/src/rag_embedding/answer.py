"""Answers as JSON: OpenAI's embedding list and Cohere's ranking."""

import base64
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from fastapi import Response

from rag_common.late_interaction import pack
from rag_embedding.backend import Backend, Encoded, Vectors
from rag_embedding.schema import EmbeddingRequest, RerankRequest


def json_response(body: Any) -> Response:
    """JSON; arrays of numbers straight from NumPy."""
    return Response(
        orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json"
    )


def _item(index: int, encoded: Encoded, vectors: Vectors, request: EmbeddingRequest) -> Any:
    item: dict[str, Any] = {"object": "embedding", "index": index, "truncated": encoded.truncated}
    if "dense" in request.outputs:
        dense = np.ascontiguousarray(vectors.dense, "<f4")
        as_text = request.encoding_format == "base64"
        item["embedding"] = base64.b64encode(dense.tobytes()).decode() if as_text else dense
    if vectors.sparse is not None:
        item["sparse"] = {"indices": vectors.sparse.indices, "values": vectors.sparse.values}
    if vectors.tokens is not None:
        packed = pack(vectors.tokens, pool=request.input_type == "document")
        item["late"] = base64.b64encode(packed).decode()
    return item


def embeddings(
    backend: Backend,
    request: EmbeddingRequest,
    encoded: Sequence[Encoded],
    vectors: Sequence[Vectors],
) -> Response:
    """The answer to `POST /v1/embeddings`."""
    tokens = sum(len(item.ids) for item in encoded)
    pairs = zip(encoded, vectors, strict=True)
    return json_response(
        {
            "object": "list",
            "data": [_item(i, item, vector, request) for i, (item, vector) in enumerate(pairs)],
            "model": backend.name,
            "model_digest": backend.digest,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


def ranking(backend: Backend, request: RerankRequest, scores: Sequence[float]) -> Response:
    """The answer to `POST /v1/rerank`: best first, ties in the order given."""
    texts = request.texts
    order = sorted(range(len(texts)), key=lambda index: -scores[index])[: request.top_n]
    results: list[dict[str, Any]] = [
        {"index": index, "relevance_score": float(scores[index])} for index in order
    ]
    if request.return_documents:
        for result in results:
            result["document"] = {"text": texts[result["index"]]}
    meta = {"model": backend.name, "model_digest": backend.digest}
    return json_response({"id": str(uuid.uuid4()), "results": results, "meta": meta})
