"""What the retrieved evidence is worth, before any model is asked."""

from collections.abc import Sequence

from rag_retrieval.evidence.features import Features, answerability_features, relevance_features
from rag_retrieval.evidence.logistic import ModelFileError, load
from rag_retrieval.evidence.reading import Embed, ReadPassage, read
from rag_retrieval.types import Retrieval

__all__ = [
    "Embed",
    "ModelFileError",
    "ReadPassage",
    "answerability",
    "answerable_from",
    "read",
    "relevance",
]


def relevance(retrieval: Retrieval) -> float:
    """The probability that the first passage is relevant; 0 when nothing was found.

    Calibrated on questions that the index can answer; `answerability` says whether it can.
    """
    if not retrieval.candidates:
        return 0.0
    features = relevance_features(retrieval)
    return load(_variant("relevance", features))(features)


def answerability(question: str, retrieval: Retrieval, passages: Sequence[ReadPassage]) -> float:
    """The calibrated probability that `passages` answer the question; 0 when there are none."""
    if not passages or not retrieval.candidates:
        return 0.0
    features = answerability_features(question, retrieval, passages)
    return load(_variant("answerability", features))(features)


def answerable_from(retrieval: Retrieval) -> float:
    """The answerability at and above which a question is given to the model."""
    return load(_variant("answerability", relevance_features(retrieval))).threshold


def _variant(name: str, features: Features) -> str:
    """Without token vectors, the model that was trained without them."""
    return name if "late" in features else f"{name}_plain"
