"""Passages read for an answer: sentences with their vectors, near-duplicates left out."""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from rag_retrieval.evidence import text as lexicon
from rag_retrieval.types import Passage

Matrix = npt.NDArray[np.float32]
MAX_SENTENCES, MAX_SENTENCE_CHARACTERS = 32, 600
DUPLICATE_OVERLAP = 0.8


class Embed(Protocol):
    """Embeds texts as documents: unit vectors of shape (len(texts), dimension)."""

    def __call__(self, texts: Sequence[str], /) -> Awaitable[Matrix]:
        """The vectors of `texts`, in order."""


@dataclass(frozen=True)
class ReadPassage:
    """A passage with its sentences and one unit vector a sentence."""

    passage: Passage
    sentences: tuple[str, ...]
    vectors: Matrix

    @property
    def chunk_id(self) -> str:
        """The chunk's id."""
        return self.passage.hit.chunk.chunk_id

    @cached_property
    def heading(self) -> str:
        """The document's title and the chunk's headings."""
        hit = self.passage.hit
        return " > ".join(part for part in (hit.document_title, *hit.chunk.heading_path) if part)

    @cached_property
    def full_text(self) -> str:
        """Heading and passage."""
        return f"{self.heading}\n{self.passage.hit.chunk.text}"

    @cached_property
    def terms(self) -> frozenset[str]:
        """Stems of heading and passage."""
        return lexicon.terms(self.full_text)

    @cached_property
    def numbers(self) -> frozenset[str]:
        """Numbers of heading and passage."""
        return lexicon.numbers(self.full_text)

    @cached_property
    def tokens(self) -> frozenset[str]:
        """Tokens of heading and passage."""
        return lexicon.tokens(self.full_text)

    @cached_property
    def sentence_terms(self) -> tuple[frozenset[str], ...]:
        """Stems of each sentence."""
        return tuple(lexicon.terms(sentence) for sentence in self.sentences)


def distinct(passages: Sequence[Passage]) -> list[Passage]:
    """`passages` without empty ones and without those that nearly repeat a better one."""
    kept: list[Passage] = []
    seen: list[frozenset[str]] = []
    for passage in passages:
        terms = lexicon.terms(passage.hit.chunk.text)
        if terms and not any(_overlap(terms, other) >= DUPLICATE_OVERLAP for other in seen):
            kept.append(passage)
            seen.append(terms)
    return kept


def _overlap(a: frozenset[str], b: frozenset[str]) -> float:
    # Against the smaller set: a passage that is contained in a better one is a duplicate too.
    return len(a & b) / min(len(a), len(b))


async def read(passages: Sequence[Passage], embed: Embed) -> list[ReadPassage]:
    """Split the distinct `passages` into sentences and embed them, in one call."""
    kept = distinct(passages)
    split = [split_passage(passage.hit.chunk.text) for passage in kept]
    flat = [sentence for part in split for sentence in part]
    if not flat:
        return []
    vectors = np.asarray(await embed(flat), dtype=np.float32)
    bounds = np.cumsum([len(part) for part in split])[:-1]
    parts = np.split(vectors, bounds)
    return [ReadPassage(p, tuple(s), v) for p, s, v in zip(kept, split, parts, strict=True)]


def split_passage(text: str) -> list[str]:
    """The sentences that are read of a passage; very long ones are cut."""
    pieces = lexicon.sentences(text)[:MAX_SENTENCES]
    return [piece[:MAX_SENTENCE_CHARACTERS] for piece in pieces]
