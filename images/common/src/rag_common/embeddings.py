"""What an embedding service answers to `POST /v1/embeddings`, read and checked in one place."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]


class EmbeddingsFormatError(ValueError):
    """An answer that is not what was asked for; the message says in what."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """One embedded text: a dense vector (dimension,) and, where asked for, packed late vectors."""

    dense: Vector
    late: bytes | None


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One item a text, in the texts' order, and the digest of the model that made them."""

    items: Sequence[Embedded]
    model_digest: str


def embeddings_of(answer: Any, texts: int, *, late: bool = False) -> Embeddings:
    """The embeddings of `texts` texts that were asked for as base64, `late` with token vectors.

    Raises `EmbeddingsFormatError` for fewer, more or doubled ones, and for vectors that are empty, not finite
    or of different lengths.
    """
    try:
        items = sorted(answer["data"], key=lambda item: int(item["index"]))
        indexes = [item["index"] for item in items]
        found = [_embedded(item, late) for item in items]
        digest = str(answer["model_digest"])
    except (KeyError, TypeError, ValueError) as error:
        raise EmbeddingsFormatError(f"not embeddings: {type(error).__name__}: {error}") from error
    if indexes != list(range(texts)):
        raise EmbeddingsFormatError(f"{len(set(indexes))} embeddings of {texts} texts")
    if len({item.dense.shape for item in found}) > 1:
        raise EmbeddingsFormatError("vectors of different lengths")
    return Embeddings(found, digest)


def _embedded(item: Mapping[str, Any], late: bool) -> Embedded:
    packed = base64.b64decode(item["late"], validate=True) if late else None
    dense = np.frombuffer(base64.b64decode(item["embedding"], validate=True), dtype="<f4")
    if not dense.size or not np.isfinite(dense).all():
        raise ValueError("an empty or non-finite vector")
    return Embedded(dense, packed)
