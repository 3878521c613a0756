"""Reciprocal rank fusion of the dense and the lexical leg, the same for every store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rag_store.base import SearchMode

K = 60
Leg = Sequence[tuple[str, float]]
"""What one leg found: (chunk id, score), in any order."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A chunk id with its score and rank (from 1) in each leg that returned it."""

    chunk_id: str
    score: float
    dense_score: float | None
    dense_rank: int | None
    lexical_score: float | None
    lexical_rank: int | None


def _ranks(leg: Leg) -> dict[str, tuple[int, float]]:
    ordered = sorted(leg, key=lambda item: (-item[1], item[0]))
    return {key: (rank, score) for rank, (key, score) in enumerate(ordered, 1)}


def _rrf(key: str, *legs: Mapping[str, tuple[int, float]]) -> float:
    return sum(1 / (K + leg[key][0]) for leg in legs if key in leg)


def rank(dense: Leg, lexical: Leg, mode: SearchMode, limit: int) -> list[Ranked]:
    """The best `limit` chunks by the mode's score; equal scores are ordered by chunk id."""
    by_dense, by_lexical = _ranks(dense), _ranks(lexical)
    ranked = []
    for key in by_dense | by_lexical:
        dense_rank, dense_score = by_dense.get(key, (None, None))
        lexical_rank, lexical_score = by_lexical.get(key, (None, None))
        scores = {
            SearchMode.DENSE: dense_score,
            SearchMode.LEXICAL: lexical_score,
            SearchMode.HYBRID: _rrf(key, by_dense, by_lexical),
        }
        if (score := scores[mode]) is not None:
            ranked.append(Ranked(key, score, dense_score, dense_rank, lexical_score, lexical_rank))
    return sorted(ranked, key=lambda item: (-item.score, item.chunk_id))[:limit]
