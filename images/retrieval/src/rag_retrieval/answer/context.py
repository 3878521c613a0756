"""Which sentences of which passages go into the prompt, within a token budget."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rag_retrieval.evidence import text as lexicon
from rag_retrieval.evidence.reading import ReadPassage
from rag_retrieval.types import Retrieval

_PIECE = re.compile(r"[A-Za-z]+|\d|[^\sA-Za-z\d]")
_LONG_WORD, LABEL_TOKENS, TITLE_WORDS = 8, 5, 12
COVERAGE_WEIGHT, RANK_PENALTY = 0.3, 0.05
LEAD_BONUS = 0.05
BEHIND_BEST = 0.3  # a sentence that scores this much less than the best one only distracts


@dataclass(frozen=True, slots=True)
class Source:
    """What the prompt says under one label."""

    label: str
    title: str
    text: str
    passage: ReadPassage


def count_tokens(text: str) -> int:
    """An estimate from above of `text`'s tokens, without the model's tokenizer."""
    pieces = _PIECE.findall(text)
    return sum(1 + len(piece) // _LONG_WORD if piece.isalpha() else 1 for piece in pieces)


def assemble(
    question: str, retrieval: Retrieval, passages: Sequence[ReadPassage], budget: int
) -> list[Source]:
    """Sources S1..Sn in rank order whose texts and titles take at most `budget` tokens."""
    chosen: list[set[int]] = [set() for _ in passages]
    left = budget
    ranked = _ranked(question, retrieval, passages)
    for score, number, position in ranked:
        if score < ranked[0][0] - BEHIND_BEST:
            break
        passage = passages[number]
        cost = count_tokens(passage.sentences[position])
        if not chosen[number]:
            cost += LABEL_TOKENS + count_tokens(_title(question, passage))
        if cost <= left:
            chosen[number].add(position)
            left -= cost
    if passages and not any(chosen):
        return [_cut(passages[0], budget)]
    _widen(chosen, passages, left)
    used = [(p, picks) for p, picks in zip(passages, chosen, strict=True) if picks]
    return [
        Source(f"S{n}", _title(question, p), _excerpt(p, picks), p)
        for n, (p, picks) in enumerate(used, 1)
    ]


def _widen(chosen: list[set[int]], passages: Sequence[ReadPassage], left: int) -> None:
    """Add the neighbours of chosen sentences, an exception or a condition, while `left` lasts."""
    for passage, picks in zip(passages, chosen, strict=True):
        beside = {p + step for p in picks for step in (1, -1)} & set(range(len(passage.sentences)))
        for position in sorted(beside - picks):
            cost = count_tokens(passage.sentences[position])
            if cost <= left:
                picks.add(position)
                left -= cost


def _ranked(
    question: str, retrieval: Retrieval, passages: Sequence[ReadPassage]
) -> list[tuple[float, int, int]]:
    terms = lexicon.terms(question)
    scored: list[tuple[float, int, int]] = []
    for number, passage in enumerate(passages):
        cosines = passage.vectors @ retrieval.vectors.dense
        cover = [len(terms & found) / max(1, len(terms)) for found in passage.sentence_terms]
        values = cosines + COVERAGE_WEIGHT * np.array(cover) - RANK_PENALTY * number
        values[0] += LEAD_BONUS
        scored += [(float(value), number, position) for position, value in enumerate(values)]
    return sorted(scored, key=lambda item: (-item[0], item[1], item[2]))


def _title(question: str, passage: ReadPassage) -> str:
    """The heading's beginning, when it has words of the question that the passage lacks."""
    asked = lexicon.terms(question) & lexicon.terms(passage.heading)
    missing = asked - frozenset().union(*passage.sentence_terms)
    return " ".join(passage.heading.split()[:TITLE_WORDS]) if missing else ""


def _excerpt(passage: ReadPassage, picks: set[int]) -> str:
    return " ".join(passage.sentences[position] for position in sorted(picks))


def _cut(passage: ReadPassage, budget: int) -> Source:
    """The beginning of the first passage, when not even one sentence fits."""
    words: list[str] = []
    for word in passage.sentences[0].split():
        if count_tokens(" ".join([*words, word])) + LABEL_TOKENS > budget:
            break
        words.append(word)
    return Source("S1", "", " ".join(words), passage)
