"""Whether a passage supports a sentence: learned similarity, then exact checks."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from rag_retrieval.answer.contradiction import negation_differs, opposite_word
from rag_retrieval.evidence import text as lexicon
from rag_retrieval.evidence.logistic import load
from rag_retrieval.evidence.reading import ReadPassage
from rag_store.base import Vector

ALIGNED_SENTENCES = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """How well a sentence is supported (0..1), and what speaks against it, if anything."""

    support: float
    objection: str | None

    @property
    def supported(self) -> bool:
        """Whether nothing speaks against the sentence."""
        return self.objection is None


def verify(sentence: str, vector: Vector, passage: ReadPassage) -> Verdict:
    """Judge `sentence` (with its unit vector) by the whole of `passage`."""
    model = load("support")
    support = model(support_features(sentence, vector, passage))
    objection = exact_objection(sentence, passage, aligned(vector, passage))
    if objection is None and support < model.threshold:
        objection = "similarity"
    return Verdict(support, objection)


def support_features(sentence: str, vector: Vector, passage: ReadPassage) -> dict[str, float]:
    """Similarity of `sentence` to the passage's sentences and the coverage of its terms."""
    terms, ordered = lexicon.terms(sentence), lexicon.term_list(sentence)
    return {
        "similarity": float((passage.vectors @ vector).max()),
        "pair_similarity": float((_pairs(passage.vectors) @ vector).max()),
        "recall": _share(terms, passage.terms),
        "sentence_recall": max(_share(terms, found) for found in passage.sentence_terms),
        "bigrams": _bigrams(ordered, lexicon.term_list(passage.full_text)),
        "terms": min(len(terms), 20) / 10,
    }


def exact_objection(sentence: str, passage: ReadPassage, evidence: Sequence[str]) -> str | None:
    """The first of number, name, negation or opposite that contradicts the aligned `evidence`."""
    near = " ".join([passage.heading, *evidence])
    if lexicon.numbers(sentence) - lexicon.numbers(near):
        return "number"
    if lexicon.names(sentence) - passage.tokens:
        return "name"
    if negation_differs(sentence, evidence[0]):
        return "negation"
    if opposite_word(sentence, [passage.heading, *evidence]):
        return "opposite"
    return None


def aligned(vector: Vector, passage: ReadPassage) -> list[str]:
    """The sentences of `passage` that are nearest to `vector`, best first."""
    order = np.argsort(-(passage.vectors @ vector), kind="stable")
    return [passage.sentences[i] for i in order[:ALIGNED_SENTENCES]]


def _pairs(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Unit vectors of neighbouring sentences taken together, approximated by their sum."""
    if len(vectors) < 2:
        return vectors
    sums = vectors[:-1] + vectors[1:]
    scaled: npt.NDArray[np.float32] = sums / np.linalg.norm(sums, axis=1, keepdims=True).clip(1e-9)
    return scaled


def _share(part: frozenset[str], whole: frozenset[str]) -> float:
    return len(part & whole) / len(part) if part else 0.0


def _bigrams(ordered: Sequence[str], evidence: Sequence[str]) -> float:
    mine = set(pairwise(ordered))
    theirs = set(pairwise(evidence))
    return len(mine & theirs) / len(mine) if mine else 0.0
