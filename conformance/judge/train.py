"""Trains the judge: `python -m conformance.judge.train`. The same data gives the same model."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from conformance.corpora import fitz_gov
from conformance.corpora.model import sample
from conformance.judge.features import FEATURES, Idf, align, vector
from conformance.judge.model import IDF, MODEL, Judge
from conformance.judge.pairs import Document, LabelledPair, PairMaker, split_of
from conformance.judge.planted import report
from conformance.judge.text import stems

SEED = 20261124
_RARE = 5
_MOST = {"train": 1200, "validation": 400, "test": 400}
_INVERSE_REGULARISATION = 0.1
Matrix = npt.NDArray[np.float64]


def documents(split: str) -> list[Document]:
    """A sample of the built-in corpus' documents of one split."""
    found = [d for d in fitz_gov.load().documents if split_of(d.id) == split]
    return [Document(d.id, d.title, d.text) for d in sample(found, _MOST[split], SEED, split)]


def frequencies(training: Sequence[Document]) -> Idf:
    """Document counts of stems that are not rare."""
    counts = Counter(name for d in training for name in set(stems(d.source)))
    kept = {name: n for name, n in sorted(counts.items()) if n >= _RARE}
    return Idf(len(training), kept)


def _matrix(pairs: Sequence[LabelledPair], idf: Idf) -> Matrix:
    return np.array([vector(align(p.claim, p.source, idf)) for p in pairs])


def kind_weights(pairs: Sequence[LabelledPair]) -> Matrix:
    """Half of the weight for supported pairs, half for the others, the same for each kind."""
    counts = Counter(p.kind for p in pairs)
    kinds = {True: set[str](), False: set[str]()}
    for pair in pairs:
        kinds[pair.supported].add(pair.kind)
    return np.array([len(pairs) / 2 / len(kinds[p.supported]) / counts[p.kind] for p in pairs])


def fit(pairs: Sequence[LabelledPair], idf: Idf) -> tuple[Matrix, float]:
    """Weights over raw features, and the intercept."""
    scaler = StandardScaler()
    scaled = scaler.fit_transform(_matrix(pairs, idf))
    model = LogisticRegression(C=_INVERSE_REGULARISATION, max_iter=5000)
    model.fit(scaled, [p.supported for p in pairs], sample_weight=kind_weights(pairs))
    weights = model.coef_[0] / scaler.scale_
    return weights, float(model.intercept_[0] - weights @ scaler.mean_)


def best_threshold(scores: Matrix, pairs: Sequence[LabelledPair]) -> float:
    """The threshold with the highest weighted accuracy; the middle one of the best."""
    truth, weights = np.array([p.supported for p in pairs]), kind_weights(pairs)
    grid = np.arange(0.05, 0.96, 0.01)
    accuracy = [float((((scores >= t) == truth) * weights).sum()) for t in grid]
    best = np.flatnonzero(np.isclose(accuracy, max(accuracy)))
    return round(float(grid[best[len(best) // 2]]), 2)


def train() -> Judge:
    """Fit on the training documents, fix the threshold on the validation documents."""
    training = documents("train")
    idf = frequencies(training)
    weights, intercept = fit(list(PairMaker(training, SEED)), idf)
    validation = list(PairMaker(documents("validation"), SEED))
    logits = _matrix(validation, idf) @ weights + intercept
    threshold = best_threshold(1 / (1 + np.exp(-logits)), validation)
    return Judge(weights, intercept, threshold, idf)


def _provenance(tests: dict[str, Any]) -> dict[str, Any]:
    corpus = fitz_gov.load()
    return {
        "command": "python -m conformance.judge.train",
        "data": f"fitz-gov 4.1.0 (MIT), {len(corpus.documents)} documents split 6:2:2 by SHA-256 of the id",
        "corpus_sha256": corpus.digest,
        "seed": SEED,
        "scikit_learn": sklearn.__version__,
        "held_out_accuracy": tests,
    }


def write(judge: Judge, tests: dict[str, Any]) -> None:
    """The model as two JSON files beside this module."""
    weights = {n: round(float(w), 5) for n, w in zip(FEATURES, judge.weights, strict=True)}
    model = {
        "provenance": _provenance(tests),
        "threshold": judge.threshold,
        "intercept": round(judge.intercept, 5),
        "weights": weights,
    }
    MODEL.write_text(json.dumps(model, indent=1) + "\n", encoding="utf-8")
    table = {"documents": judge.idf.documents, "counts": judge.idf.counts}
    IDF.write_text(json.dumps(table, separators=(",", ":")) + "\n", encoding="utf-8")


def main() -> None:
    """Train, test on the held-out documents, write, print the table."""
    judge = train()
    tests = report(judge, documents("test"), SEED)
    rows = {kind: {"accuracy": round(m.value, 4), "n": m.n} for kind, m in tests.items()}
    write(judge, rows)
    for kind, m in tests.items():
        print(f"{kind:12} {m.value:.3f} [{m.low:.3f}, {m.high:.3f}] n={m.n}")


if __name__ == "__main__":
    main()
