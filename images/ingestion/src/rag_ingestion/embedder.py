"""The embedding service as ingestion uses it: model, tokenizer and document vectors."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import anyio
import httpx
import orjson

from rag_common.embeddings import Embedded, Embeddings, embeddings_of
from rag_common.http import async_client
from rag_ingestion.errors import EmbeddingError
from rag_store.base import EmbeddingModel

_TIMEOUT_SECONDS = 120.0
_FIRST_DELAY_SECONDS = 0.25
_MAX_DELAY_SECONDS = 15.0
_BUSY = {429, 502, 503, 504}


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What the service says of its model."""

    model: EmbeddingModel
    max_tokens: int
    outputs: tuple[str, ...]


class Embedder:
    """A client that waits out a busy or restarting service for at most `retry_seconds` a request."""

    def __init__(self, url: str, *, retry_seconds: float, model: str | None = None) -> None:
        self.url, self.retry_seconds, self.wanted = url, retry_seconds, model
        self.client = async_client(url, timeout=_TIMEOUT_SECONDS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.client.aclose()

    async def card(self) -> ModelCard:
        """The model's card; raises `EmbeddingError` when the wanted model is not served."""
        served = orjson.loads(await self._send("GET", "/v1/models"))["data"]
        for entry in served:
            if self.wanted in (None, entry["id"]):
                model = EmbeddingModel(entry["id"], entry["digest"], entry["dimension"])
                return ModelCard(model, entry["max_tokens"], tuple(entry["outputs"]))
        names = ", ".join(entry["id"] for entry in served) or "none"
        raise EmbeddingError(f"{self.url} does not serve {self.wanted!r} (it serves: {names})")

    async def tokenizer(self, model: EmbeddingModel) -> bytes:
        """The model's `tokenizer.json`."""
        return await self._send("GET", f"/v1/models/{model.name}/tokenizer")

    async def embed(self, card: ModelCard, texts: Sequence[str]) -> Sequence[Embedded]:
        """One embedding a text, in order; raises `EmbeddingError` on anything else than that."""
        late = "late" in card.outputs
        body = {
            "model": card.model.name,
            "input": list(texts),
            "encoding_format": "base64",
            "outputs": ["dense", "late"] if late else ["dense"],
            "input_type": "document",
        }
        content = await self._send("POST", "/v1/embeddings", body)
        try:
            found = embeddings_of(orjson.loads(content), len(texts), late=late)
        except ValueError as error:
            raise EmbeddingError(f"{self.url}: {error}") from error
        self._check(found, card.model)
        return found.items

    def _check(self, found: Embeddings, model: EmbeddingModel) -> None:
        if found.model_digest != model.digest:
            raise EmbeddingError(f"{self.url} changed its model during the run; run again")
        if any(item.dense.shape != (model.dimension,) for item in found.items):
            raise EmbeddingError(f"{self.url}: not vectors of {model.dimension} numbers")

    async def _send(self, method: str, path: str, body: Any = None) -> bytes:
        deadline = anyio.current_time() + self.retry_seconds
        delay = _FIRST_DELAY_SECONDS
        while True:
            problem, retry_after = "", 0.0
            try:
                response = await self.client.request(method, path, json=body)
            except httpx.TransportError as error:
                problem = f"{type(error).__name__} {error}".strip()
            else:
                if response.is_success:
                    return response.content
                problem = f"HTTP {response.status_code}: {response.text[:300]}"
                if response.status_code not in _BUSY:
                    raise EmbeddingError(f"{self.url}{path}: {problem}")
                retry_after = _seconds(response.headers.get("retry-after"))
            wait = max(retry_after, delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            if anyio.current_time() + wait > deadline:
                waited = f"gave up after {self.retry_seconds:g} s"
                raise EmbeddingError(f"{self.url}{path}: {problem} ({waited})")
            await anyio.sleep(wait)
            delay = min(delay * 2, _MAX_DELAY_SECONDS)


def _seconds(header: str | None) -> float:
    try:
        return max(0.0, float(header or 0))
    except ValueError:  # an HTTP date: our own backoff will do
        return 0.0
