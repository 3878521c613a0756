"""The classifier: a network with one small hidden layer over the embeddings of one model."""

import base64
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_STORED = "<f2"  # half precision moves a score by far less than its thresholds' own uncertainty


class ModelError(Exception):
    """The coefficients are missing, malformed, or made for vectors of another width."""


@dataclass(frozen=True, slots=True)
class Network:
    """`sigmoid(relu(x · hidden + hidden_bias) · output + output_bias)`."""

    hidden: Array
    hidden_bias: Array
    output: Array
    output_bias: float

    def __post_init__(self) -> None:
        """Raise `ModelError` unless the shapes fit together and all is finite."""
        parts = (self.hidden, self.hidden_bias, self.output, self.output_bias)
        width = (self.hidden.shape[-1],) if self.hidden.ndim == 2 else None
        if self.hidden_bias.shape != width or self.output.shape != width:
            raise ModelError("layers whose shapes do not fit together")
        if not all(np.isfinite(part).all() for part in parts):
            raise ModelError("coefficients that are not finite")

    @classmethod
    def of(cls, coefficients: list[Array], intercepts: list[Array]) -> "Network":
        """A fitted scikit-learn `MLPClassifier`'s, at the precision that is stored."""
        hidden, output = (np.asarray(c, _STORED).astype(float) for c in coefficients)
        hidden_bias, output_bias = (np.asarray(i, _STORED).astype(float) for i in intercepts)
        return cls(hidden, hidden_bias, output[:, 0], float(output_bias[0]))

    def scores(self, vectors: NDArray[np.float32]) -> Array:
        """For each row how likely it is an attack, 0 to 1; raises `ModelError` for another width."""
        if vectors.ndim != 2 or vectors.shape[1] != len(self.hidden):
            raise ModelError(f"vectors {vectors.shape}, made for width {len(self.hidden)}")
        active = np.maximum(vectors @ self.hidden + self.hidden_bias, 0)
        logits = active @ self.output + self.output_bias
        return np.asarray(1 / (1 + np.exp(-np.clip(logits, -50, 50))))


@dataclass(frozen=True, slots=True)
class Model:
    """A network, the scores at which texts are flagged, and the embedding model it is for."""

    network: Network
    request_threshold: float
    retrieved_threshold: float
    embedding_digest: str

    def as_dict(self) -> dict[str, Any]:
        """What `load` reads."""
        return {
            "embedding_digest": self.embedding_digest,
            "request_threshold": self.request_threshold,
            "retrieved_threshold": self.retrieved_threshold,
            "hidden": [_packed(row) for row in self.network.hidden.T],
            "hidden_bias": _packed(self.network.hidden_bias),
            "output": _packed(self.network.output),
            "output_bias": self.network.output_bias,
        }

    @classmethod
    def load(cls, path: Path | None = None) -> "Model":
        """The model in `path`, else the package's own; raises `ModelError`."""
        source = path or files("rag_guard").joinpath("model.json")
        try:
            stored = json.loads(source.read_text(encoding="utf-8"))
            network = Network(
                np.stack([_unpacked(row) for row in stored["hidden"]], axis=1),
                _unpacked(stored["hidden_bias"]),
                _unpacked(stored["output"]),
                float(stored["output_bias"]),
            )
            return cls(
                network,
                float(stored["request_threshold"]),
                float(stored["retrieved_threshold"]),
                str(stored["embedding_digest"]),
            )
        except (OSError, ValueError, KeyError, TypeError, ModelError) as error:
            raise ModelError(f"{source}: {type(error).__name__}: {error}") from error


def _packed(vector: Array) -> str:
    return base64.b64encode(vector.astype(_STORED).tobytes()).decode()


def _unpacked(text: str) -> Array:
    return np.frombuffer(base64.b64decode(text, validate=True), _STORED).astype(float)
