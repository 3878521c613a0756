"""The embedding service over HTTP."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from rag_retrieval.deadline import Deadline
from rag_retrieval.errors import ModelMismatchError, UpstreamRejectedError
from rag_retrieval.peers import Peer
from rag_retrieval.types import Embedded, Embeddings
from rag_store.base import Vector

NOT_FOUND = 404  # the embedder serves another model


class EmbeddingClient:
    """Implements `Embedder` over `POST /v1/embeddings`."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def embed(
        self,
        texts: Sequence[str],
        *,
        model: str | None = None,
        late: bool = False,
        input_type: Literal["query", "document"] = "document",
        deadline: Deadline,
    ) -> Embeddings:
        """Vectors of `texts`; raises `UpstreamError` (`ModelMismatchError` for another model)."""
        body = {
            "input": list(texts),
            "encoding_format": "base64",
            "outputs": ["dense", "late"] if late else ["dense"],
            "input_type": input_type,
        } | ({"model": model} if model else {})
        try:
            answer = await self._peer.post("/v1/embeddings", body, deadline=deadline)
        except UpstreamRejectedError as error:
            if error.status == NOT_FOUND and model:
                raise ModelMismatchError(error.service, error.detail) from error
            raise
        return self._parse(answer, len(texts), late)

    async def ready(self, timeout: float) -> None:  # noqa: ASYNC109 - httpx enforces it
        """Raise `UpstreamError` unless the service answers within `timeout` seconds."""
        await self._peer.get("/v1/models", timeout=timeout)

    async def close(self) -> None:
        """Close the connections."""
        await self._peer.close()

    def _parse(self, answer: Any, count: int, late: bool) -> Embeddings:
        try:
            data = sorted(answer["data"], key=lambda item: item["index"])
            items = [_item(item, late) for item in data]
            digest = str(answer["model_digest"])
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            detail = f"an answer that is not embeddings ({type(error).__name__}: {error})"
            raise UpstreamRejectedError(self._peer.service, detail) from None
        if len(items) != count:
            detail = f"{len(items)} embeddings for {count} texts"
            raise UpstreamRejectedError(self._peer.service, detail)
        return Embeddings(items, digest)


def _item(item: Mapping[str, Any], late: bool) -> Embedded:
    packed = base64.b64decode(item["late"], validate=True) if late else None
    return Embedded(_vector(item["embedding"]), packed)


def _vector(encoded: str) -> Vector:
    vector = np.frombuffer(base64.b64decode(encoded, validate=True), dtype="<f4")
    if not vector.size or not np.isfinite(vector).all():
        raise ValueError("an empty or non-finite vector")
    return vector
