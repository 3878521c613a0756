"""The judge: is this sentence supported by a chunk it cites?"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from conformance.judge.features import FEATURES, Idf, align, vector

MODEL = Path(__file__).with_name("model.json")
IDF = Path(__file__).with_name("idf.json")


class JudgeError(Exception):
    """The judge's files do not belong to this code: train it again."""


@dataclass(frozen=True, slots=True)
class Judge:
    """A logistic regression over alignment features with a threshold fixed on validation pairs."""

    weights: npt.NDArray[np.float64]
    intercept: float
    threshold: float
    idf: Idf

    def score(self, claim: str, source: str) -> float:
        """Probability in 0..1 that `source` supports `claim`; 0 for an empty text."""
        if not claim.strip() or not source.strip():
            return 0.0
        logit = float(vector(align(claim, source, self.idf)) @ self.weights) + self.intercept
        return 1 / (1 + math.exp(-max(-60.0, min(60.0, logit))))

    def supports(self, claim: str, source: str) -> bool:
        """Whether one source supports the claim."""
        return self.score(claim, source) >= self.threshold

    def supported(self, claim: str, sources: Sequence[str]) -> bool:
        """Whether any of the cited sources supports the claim; without a source it is not."""
        return any(self.supports(claim, source) for source in sources)


def read(model: Path = MODEL, idf: Path = IDF) -> Judge:
    """The judge from its files; raises `JudgeError` when they are not for these features."""
    try:
        data = json.loads(model.read_text(encoding="utf-8"))
        counts = json.loads(idf.read_text(encoding="utf-8"))
        weights = data["weights"]
        if tuple(weights) != FEATURES:
            raise JudgeError(
                f"{model}: made for other features; run python -m conformance.judge.train"
            )
        values = np.array([weights[name] for name in FEATURES])
        table = Idf(int(counts["documents"]), counts["counts"])
        return Judge(values, float(data["intercept"]), float(data["threshold"]), table)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JudgeError(f"{model}: cannot be read: {error!r}") from error


@cache
def load() -> Judge:
    """The judge that the gates use."""
    return read()
