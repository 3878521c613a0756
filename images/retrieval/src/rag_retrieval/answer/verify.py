"""Whether a passage supports a sentence: learned similarity, then exact checks.

A sentence stands in the model's own words only where that is safe. One that comes from the passage
but not safely so (merged, glued to the question, with another number) gives way to the passage's
own sentence; one that comes from nowhere is dropped.
"""

import re
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

_WORD = re.compile(r"[\w.,%$€£'-]*\w")
ALIGNED_SENTENCES = 3
QUOTE_TERMS = 3  # fewer content words are a heading or a fragment


@dataclass(frozen=True, slots=True)
class Verdict:
    """How well a sentence is supported (0..1), and what speaks against it, if anything.

    `quote` is the passage's sentence that the judged one came from, None when there is none.
    """

    support: float
    objection: str | None
    quote: str | None = None

    @property
    def supported(self) -> bool:
        """Whether nothing speaks against the sentence."""
        return self.objection is None


def verify(sentence: str, vector: Vector, passage: ReadPassage) -> Verdict:
    """Judge `sentence` (with its unit vector) by the whole of `passage`."""
    model = load("support")
    support = model(support_features(sentence, vector, passage))
    if _copied(sentence, passage):
        return Verdict(support, None)
    evidence = aligned(vector, passage)
    objection = exact_objection(sentence, passage, evidence)
    near = support >= model.threshold
    if objection is None and support < model.strict:
        objection = "similarity"
    # A name that the passage lacks: the question is about somebody else, so no quote answers it.
    quotable = near and objection != "name" and _claims(evidence[0])
    return Verdict(support, objection, evidence[0] if quotable else None)


def _claims(sentence: str) -> bool:
    """Whether `sentence` says something: no fragment, no question."""
    return len(lexicon.terms(sentence)) >= QUOTE_TERMS and not sentence.endswith("?")


def _copied(sentence: str, passage: ReadPassage) -> bool:
    """Whether the passage says `sentence` word for word."""
    here, there = (" ".join(_WORD.findall(t.lower())) for t in (sentence, passage.full_text))
    return _claims(sentence) and f" {here} " in f" {there} "


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
    """The first of question, number, name, negation or opposite that speaks against a sentence
    whose aligned sentences in the passage are `evidence`."""
    if sentence.endswith("?"):
        return "question"
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
