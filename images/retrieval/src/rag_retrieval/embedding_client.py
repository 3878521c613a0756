"""The embedding service over HTTP."""

import contextlib
from collections.abc import Sequence
from typing import Literal

from rag_common.embeddings import Embeddings, EmbeddingsFormatError, embeddings_of
from rag_retrieval.deadline import Deadline
from rag_retrieval.errors import ModelMismatchError, UpstreamError, UpstreamRejectedError
from rag_retrieval.peers import Peer

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
        try:
            return embeddings_of(answer, len(texts), late=late)
        except EmbeddingsFormatError as error:
            raise UpstreamRejectedError(self._peer.service, str(error)) from error

    async def ready(self, timeout: float) -> None:  # noqa: ASYNC109 - httpx enforces it
        """Raise `UpstreamError` unless the service answers within `timeout` seconds."""
        await self._peer.get("/v1/models", timeout=timeout)

    async def close(self) -> None:
        """Close the connections."""
        await self._peer.close()


class EmbeddingClients:
    """Implements `Embedder` over several services: while a model is swapped, two are served.

    The first answers whatever no index asks for; an index's queries go to the one of its model.
    """

    def __init__(self, clients: Sequence[EmbeddingClient]) -> None:
        self._clients = clients
        self._serves: dict[str, int] = {}  # digest to the client that served it last

    async def embed(
        self,
        texts: Sequence[str],
        *,
        model: str | None = None,
        late: bool = False,
        input_type: Literal["query", "document"] = "document",
        deadline: Deadline,
        digest: str | None = None,
    ) -> Embeddings:
        """Vectors of `texts`, by the model of `digest` where one serves it; as `EmbeddingClient`'s."""
        first = self._serves.get(digest or "", 0)
        try:
            found = await self._clients[first].embed(
                texts, model=model, late=late, input_type=input_type, deadline=deadline
            )
            mismatch = None
        except ModelMismatchError as error:
            found, mismatch = None, error
        if found and digest in (None, found.model_digest):
            return found
        for number in (n for n in range(len(self._clients)) if n != first):
            with contextlib.suppress(UpstreamError):
                other = await self._clients[number].embed(
                    texts, model=model, late=late, input_type=input_type, deadline=deadline
                )
                if digest == other.model_digest:
                    self._serves[digest] = number
                    return other
        if found is None:
            assert mismatch
            raise mismatch
        return found

    async def ready(self, timeout: float) -> None:  # noqa: ASYNC109 - httpx enforces it
        """Raise `UpstreamError` unless the first service answers within `timeout` seconds."""
        await self._clients[0].ready(timeout)

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients:
            await client.close()
