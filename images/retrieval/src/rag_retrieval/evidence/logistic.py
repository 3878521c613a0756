"""Logistic regressions whose coefficients are a JSON file of the package."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


class ModelFileError(Exception):
    """The coefficients' file does not fit the features that the code computes."""


@dataclass(frozen=True, slots=True)
class Logistic:
    """A calibrated probability from named features with its operating points.

    `strict` is a second, higher one, for models that have two; else it equals `threshold`.
    """

    intercept: float
    weights: Mapping[str, float]
    threshold: float
    strict: float
    provenance: Mapping[str, Any]

    def __call__(self, features: Mapping[str, float]) -> float:
        """The probability in 0..1; raises `ModelFileError` when a feature is missing or NaN."""
        try:
            z = self.intercept + sum(w * features[name] for name, w in self.weights.items())
        except KeyError as error:
            raise ModelFileError(f"feature {error} is in the model but not computed") from error
        if math.isnan(z):
            raise ModelFileError("a feature is NaN")
        return 1 / (1 + math.exp(-max(-60.0, min(60.0, z))))


@cache
def load(name: str) -> Logistic:
    """The model `name` of `models.json`."""
    data = json.loads(files(__package__).joinpath("models.json").read_text("utf-8"))
    model = data["models"][name]
    return Logistic(
        model["intercept"],
        model["weights"],
        model["threshold"],
        model.get("strict", model["threshold"]),
        data["provenance"] | model["measured"],
    )
