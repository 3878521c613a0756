"""What an embedding backend is, and how one is picked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from rag_embedding.settings import Settings

Matrix = npt.NDArray[np.float32]


class BackendError(Exception):
    """The backend or its model cannot be loaded; the message says what to do."""


class InvalidTokensError(ValueError):
    """Token ids that the model's vocabulary does not have."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A text as the model reads it: its token ids, special ones included."""

    ids: tuple[int, ...]
    text: str
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Sparse:
    """A lexical vector: token ids and their weights."""

    indices: Sequence[int]
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Vectors:
    """What the model made of a text; `tokens` are unit vectors without the special tokens."""

    dense: Matrix
    tokens: Matrix | None = None
    sparse: Sparse | None = None


class Backend(Protocol):
    """An embedding model. `embed` and `rerank` are called from one thread only."""

    name: str
    digest: str
    dimension: int
    max_tokens: int
    outputs: frozenset[str]

    def tokenizer_json(self) -> str:
        """The tokenizer, without truncation or padding, as `tokenizer.json`."""

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Tokenise, truncating to `max_tokens`."""

    def wrap(self, ids: Sequence[int]) -> Encoded:
        """Ids without special tokens made a text; raises `InvalidTokensError`."""

    def embed(self, batch: Sequence[Encoded], outputs: frozenset[str]) -> list[Vectors]:
        """The vectors of texts of about equal length, in order."""

    def rerank(self, query: str, documents: Sequence[str]) -> list[float] | None:
        """Scores by a reranker of the backend's own, or None: MaxSim will be used."""


def open_backend(settings: Settings) -> Backend:
    """The backend the settings name; raises `BackendError`."""
    if settings.backend == "flagembedding":
        from rag_embedding.flag_backend import FlagBackend

        return FlagBackend(settings.model, settings.precision, settings.threads, settings.reranker)
    from rag_embedding.onnx_backend import OnnxBackend

    return OnnxBackend(settings.model, settings.precision, settings.threads)
