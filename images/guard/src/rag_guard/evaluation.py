"""What the classifier achieves on texts it never learnt from; written into the model's provenance."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rag_guard.embedding import Vectors
from rag_guard.model import Array, Network
from rag_guard.patterns import first_match


class Embedded(NamedTuple):
    """Texts, the vectors of all their windows, and how many windows each has."""

    texts: Sequence[str]
    vectors: Vectors
    counts: Sequence[int]


def worst(network: Network, embedded: Embedded) -> Array:
    """Each text's highest score among its windows, 0 without one."""
    parts = np.split(network.scores(embedded.vectors), np.cumsum(embedded.counts)[:-1])
    return np.array([part.max(initial=0.0) for part in parts])


def threshold(network: Network, benign: Embedded, false_positives: float) -> float:
    """The score that a share `false_positives` of `benign` texts reaches, to four digits."""
    return round(float(np.quantile(worst(network, benign), 1 - false_positives)), 4)


def flagged_share(
    network: Network, embedded: Embedded, at: float, *, retrieved: bool = False
) -> dict[str, float]:
    """The shares of texts that the classifier flags, and with the rules."""
    by_score = worst(network, embedded) >= at
    by_rule = [first_match(text, retrieved=retrieved) is not None for text in embedded.texts]
    return {
        "texts": len(embedded.texts),
        "flagged_by_classifier": round(float(by_score.mean()), 4),
        "flagged": round(float((by_score | np.array(by_rule)).mean()), 4),
    }
