"""The classifier's coefficients: a logistic regression over the embeddings of one model."""

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit


class ModelError(Exception):
    """The coefficients are missing or malformed."""


@dataclass(frozen=True, slots=True)
class Model:
    """Weights, the scores at which texts are flagged, and the embedding model they hold for."""

    weights: NDArray[np.float64]
    bias: float
    request_threshold: float
    retrieved_threshold: float
    embedding_digest: str

    def scores(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """For each row how likely it is an attack, 0 to 1; raises `ModelError` for another width."""
        if vectors.shape[1:] != self.weights.shape:
            raise ModelError(f"vectors {vectors.shape}, weights {self.weights.shape}")
        return np.asarray(expit(vectors @ self.weights + self.bias), dtype=np.float64)

    def as_dict(self) -> dict[str, Any]:
        """What `load` reads; weights rounded to six digits, far below what changes a verdict."""
        return {
            "embedding_digest": self.embedding_digest,
            "request_threshold": round(self.request_threshold, 4),
            "retrieved_threshold": round(self.retrieved_threshold, 4),
            "bias": round(self.bias, 6),
            "weights": [round(float(weight), 6) for weight in self.weights],
        }

    @classmethod
    def load(cls, path: Path | None = None) -> "Model":
        """The model in `path`, else the package's own; raises `ModelError`."""
        source = path or files("rag_guard").joinpath("model.json")
        try:
            stored = json.loads(source.read_text(encoding="utf-8"))
            model = cls(
                np.asarray(stored["weights"], dtype=np.float64),
                float(stored["bias"]),
                float(stored["request_threshold"]),
                float(stored["retrieved_threshold"]),
                str(stored["embedding_digest"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{source}: {type(error).__name__}: {error}") from error
        if model.weights.ndim != 1 or not np.isfinite([*model.weights, model.bias]).all():
            raise ModelError(f"{source}: weights that are no finite vector")
        return model
