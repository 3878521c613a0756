"""Labelled (claim, source) pairs built from documents, split by a hash of the document's id."""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sklearn.feature_extraction.text import TfidfVectorizer

from conformance.judge.paraphrase import merge, paraphrase
from conformance.judge.plant import PLANTS, Surroundings, names
from conformance.judge.text import is_content, sentences, words

_SHARES = {"train": range(6), "validation": range(6, 8), "test": range(8, 10)}
_NEIGHBOURS = 8


@dataclass(frozen=True, slots=True)
class Document:
    """What a claim is judged against."""

    id: str
    title: str
    content: str

    @property
    def source(self) -> str:
        """Title and text, as a citation shows them."""
        return f"{self.title}. {self.content}"


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """A claim with its source, whether it is supported, and how it was made."""

    claim: str
    source: str
    supported: bool
    kind: str


def split_of(document_id: str) -> str:
    """`train`, `validation` or `test`, by the SHA-256 of the id."""
    place = int(hashlib.sha256(document_id.encode()).hexdigest(), 16) % 10
    return next(name for name, places in _SHARES.items() if place in places)


def usable_sentences(document: Document) -> list[str]:
    """Sentences that say something by themselves: 6 to 45 words, at least 4 of content."""
    result = []
    for sentence in sentences(document.content):
        found = words(sentence)
        if 6 <= len(found) <= 45 and sum(map(is_content, found)) >= 4:
            result.append(sentence)
    return result


class PairMaker:
    """Makes pairs from documents of one split, the same ones for the same seed."""

    def __init__(self, documents: Sequence[Document], seed: int) -> None:
        self._rng = random.Random(seed)  # noqa: S311 - a reproducible sample
        self._documents = [d for d in documents if usable_sentences(d)]
        texts = [d.source for d in self._documents]
        self._matrix = TfidfVectorizer(stop_words="english", sublinear_tf=True).fit_transform(texts)
        self._names = [names(d.content) for d in self._documents]

    def __iter__(self) -> Iterator[LabelledPair]:
        """Every kind for every document that allows it."""
        for index, document in enumerate(self._documents):
            own = usable_sentences(document)
            yield from self._supported(document, own)
            yield from self._unsupported(index, document, own)

    def _supported(self, document: Document, own: Sequence[str]) -> Iterator[LabelledPair]:
        rng, source = self._rng, document.source
        first = rng.choice(own)
        yield LabelledPair(first, source, True, "verbatim")
        for _ in range(3):
            text = rng.choice(own)
            if (changed := paraphrase(text, rng, rng.randint(1, 5))) != text:
                yield LabelledPair(changed, source, True, "paraphrase")
        if len(own) > 1:
            left, right = rng.sample(own, 2)
            joined = merge(left, right, rng)
            yield LabelledPair(paraphrase(joined, rng, 2), source, True, "merge")

    def _unsupported(
        self, index: int, document: Document, own: Sequence[str]
    ) -> Iterator[LabelledPair]:
        rng, source = self._rng, document.source
        near = self._near(index)
        around = Surroundings(
            document.content,
            [name for i in near for name in self._names[i]],
            [s for i in near for s in usable_sentences(self._documents[i])],
        )
        for kind, plant in PLANTS.items():
            base = rng.choice(own)
            text = paraphrase(base, rng, rng.randint(1, 3)) if rng.random() < 0.5 else base
            changed = plant(text, around, rng)
            if changed and changed != text:
                yield LabelledPair(changed, source, False, kind)
        strange = [s for s in around.clauses if s not in document.content]
        if strange:
            yield LabelledPair(rng.choice(strange), source, False, "near")
        other = self._documents[rng.randrange(len(self._documents))]
        if other.id != document.id:
            yield LabelledPair(rng.choice(usable_sentences(other)), source, False, "other")

    def _near(self, index: int) -> list[int]:
        scores = (self._matrix @ self._matrix[index].T).toarray().ravel()
        scores[index] = -1.0
        best = scores.argsort()[::-1][:_NEIGHBOURS]
        return [int(i) for i in best if scores[i] < 0.6]
