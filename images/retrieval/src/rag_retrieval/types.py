"""What passes between retrieval, evidence and answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from rag_common.embeddings import Embeddings
from rag_retrieval.deadline import Deadline
from rag_store.base import Hit, Vector

TokenVectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class QueryVectors:
    """A query's dense vector (dimension,) and its token vectors (tokens, late dimension)."""

    dense: Vector
    late: TokenVectors | None
    model_name: str
    model_digest: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A hit with the reranker's score; higher is better, scales differ between backends.

    `maxsim` is set when the reranker has computed it, so that nobody does again.
    """

    hit: Hit
    score: float
    maxsim: float | None = None


@dataclass(frozen=True, slots=True)
class Retrieval:
    """One retrieval: all reranked candidates, best first, of which the first `top_n` are used."""

    query: str
    vectors: QueryVectors
    candidates: Sequence[Passage]
    top_n: int
    cache_hit: bool
    timings_ms: Mapping[str, float]
    relevance: float = 0.0

    @property
    def passages(self) -> Sequence[Passage]:
        """The passages an answer may use."""
        return self.candidates[: self.top_n]


@dataclass(frozen=True, slots=True)
class Sentence:
    """A verified sentence of an answer with the chunk ids that support it (support in 0..1).

    `quoted` says that the source's own sentence stands in place of the model's.
    """

    text: str
    citations: tuple[str, ...]
    support: float
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an answer ended, with everything the audit record needs."""

    status: Literal["answered", "declined"]
    decline_reason: str | None
    sentences: Sequence[Sentence]
    dropped: Sequence[str]
    answerability: float
    prompt: Sequence[Mapping[str, str]]
    response: str
    model: str
    prompt_version: str
    usage: Mapping[str, int] = field(default_factory=dict)
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)


class Embedder(Protocol):
    """The embedding service."""

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
        """Vectors, of the model of `digest` if one serves it; `UpstreamError`, `DeadlineExceededError`."""
