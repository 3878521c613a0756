"""The trained classifier: a logistic regression over hashed n-grams, stored as plain arrays."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from rag_guard.features import SIZE, counts, weigh


class ModelError(Exception):
    """The stored model is missing, malformed or made for other features."""


@dataclass(frozen=True, slots=True)
class Model:
    """Weights, and the scores at which a request and a retrieved text are flagged."""

    idf: NDArray[np.float32]
    weights: NDArray[np.float32]
    bias: float
    request_threshold: float
    retrieved_threshold: float

    def scores(self, texts: list[str]) -> NDArray[np.float64]:
        """For each text how likely it is an attack, 0 to 1."""
        if not texts:
            return np.empty(0)
        logits: NDArray[np.float64] = weigh(counts(texts), self.idf) @ self.weights + self.bias
        return np.asarray(expit(logits), dtype=np.float64)

    def save(self, folder: Path) -> None:
        """Write `weights.npz` and `model.json`."""
        np.savez_compressed(folder / "weights.npz", idf=self.idf, weights=self.weights)
        settings = {
            "bias": self.bias,
            "request_threshold": self.request_threshold,
            "retrieved_threshold": self.retrieved_threshold,
        }
        (folder / "model.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Model":
        """The model that `save` wrote; raises `ModelError`."""
        try:
            settings = json.loads((folder / "model.json").read_text(encoding="utf-8"))
            with np.load(folder / "weights.npz", allow_pickle=False) as arrays:
                model = cls(arrays["idf"], arrays["weights"], **settings)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{folder}: {type(error).__name__}: {error}") from error
        if model.weights.shape != (SIZE,) or model.idf.shape != (SIZE,):
            raise ModelError(f"{folder}: made for other features ({model.weights.shape})")
        return model
