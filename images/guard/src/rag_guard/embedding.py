"""The platform's embedding service: vectors of texts, and which model made them."""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import httpx
import numpy as np
from numpy.typing import NDArray

from rag_common.embeddings import EmbeddingsFormatError, embeddings_of
from rag_common.http import async_client

Vectors = NDArray[np.float32]
_LIMITS = httpx.Limits(
    keepalive_expiry=4
)  # shorter than the server's: no request meets a closing one


class EmbeddingError(Exception):
    """The embedding service cannot be reached, is too slow, or did not answer with embeddings."""


class Embedder(Protocol):
    """What makes vectors of texts; both methods raise `EmbeddingError`."""

    async def embed(self, texts: Sequence[str], seconds: float) -> tuple[Vectors, str]:
        """One row a text, and the digest of the model that made them."""

    async def digest(self, seconds: float) -> str:
        """The digest of the model that is served."""


class EmbeddingClient:
    """Implements `Embedder` over OpenAI's `/v1/embeddings` and `/v1/models`."""

    def __init__(self, url: str) -> None:
        self._client = async_client(url, timeout=1, limits=_LIMITS)

    async def embed(self, texts: Sequence[str], seconds: float) -> tuple[Vectors, str]:
        """One row a text, and the model's digest; raises `EmbeddingError` after `seconds`."""
        body = {"input": list(texts), "encoding_format": "base64", "input_type": "query"}
        answer = await self._ask("POST", "/v1/embeddings", seconds, json=body)
        try:
            found = embeddings_of(answer, len(texts))
        except EmbeddingsFormatError as error:
            raise EmbeddingError(str(error)) from error
        return np.stack([item.dense for item in found.items]), found.model_digest

    async def digest(self, seconds: float) -> str:
        """The digest of the first model served; raises `EmbeddingError`."""
        answer = await self._ask("GET", "/v1/models", seconds)
        try:
            return str(answer["data"][0]["digest"])
        except (KeyError, TypeError, IndexError) as error:
            raise EmbeddingError("it does not tell its model's digest") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _ask(self, method: str, path: str, seconds: float, **options: Any) -> Any:
        try:
            async with asyncio.timeout(seconds):
                response = await self._client.request(method, path, timeout=seconds, **options)
            response.raise_for_status()
            return response.json()
        except (TimeoutError, httpx.TimeoutException) as error:
            raise EmbeddingError(f"no answer within {seconds:g} s") from error
        except httpx.HTTPStatusError as error:
            raise EmbeddingError(f"HTTP {error.response.status_code}") from error
        except (httpx.HTTPError, ValueError) as error:
            raise EmbeddingError(f"{type(error).__name__}") from error
