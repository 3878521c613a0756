"""How a claim aligns with a source, as numbers in a fixed order."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from conformance.judge import lexicon
from conformance.judge.passage import PREFIX, Passage, parse, without_reporting
from conformance.judge.text import stem

Weights = Callable[[str], float]
_NEAR = 12
_CLAIM_NEAR = 5


@dataclass(frozen=True, slots=True)
class Idf:
    """Inverse document frequency in 0..1 from counts; unseen stems weigh 1."""

    documents: int
    counts: Mapping[str, int]

    def __call__(self, name: str) -> float:
        """The stem's weight."""
        count = self.counts.get(name, 0)
        return math.log((self.documents + 1) / (count + 1)) / math.log(self.documents + 1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A claim, the source it cites, and the source's two sentences that cover it best."""

    claim: Passage
    source: Passage
    idf: Weights
    best: Passage
    two: Passage


def _match(name: str, source: Passage) -> float:
    if name in source.places:
        return 1.0
    akin = source.prefixes.get(name[:PREFIX], ()) if len(name) > PREFIX else ()
    return 0.7 if any(abs(length - len(name)) < PREFIX for length in akin) else 0.0


def _content(passage: Passage) -> list[str]:
    return [passage.stems[i] for i in passage.content]


def _plain(passage: Passage) -> list[str]:
    """Content stems that are neither names nor numbers: those have features of their own."""
    names = set(passage.names)
    return [n for n in _content(passage) if n not in names and not n[0].isdigit()]


def _coverage(claim: Passage, source: Passage, idf: Weights) -> float:
    names = _plain(claim) or _content(claim)
    total = sum(idf(name) for name in names)
    return sum(idf(n) * _match(n, source) for n in names) / total if total else 0.0


def align(claim_text: str, source_text: str, idf: Weights) -> Pair:
    """Parse both and find the sentences of the source that the claim would come from."""
    claim, source = parse(without_reporting(claim_text)), parse(source_text)
    options = source.sentences or [source]
    best = max(options, key=lambda s: _coverage(claim, s, idf))
    joined = [parse(f"{best.text} {s.text}") for s in options if s is not best]
    two = max(joined, key=lambda s: _coverage(claim, s, idf), default=best)
    return Pair(claim, source, idf, best, two)


def _missing(pair: Pair) -> list[str]:
    return [n for n in _plain(pair.claim) if not _match(n, pair.source)]


def _bigrams(pair: Pair) -> float:
    ours, theirs = _content(pair.claim), _content(pair.source)
    have, pairs = set(pairwise(theirs)), list(pairwise(ours))
    return sum(p in have for p in pairs) / len(pairs) if pairs else 1.0


def _common_subsequence(left: Sequence[str], right: Sequence[str]) -> int:
    row = [0] * (len(right) + 1)
    for a in left:
        diagonal = 0
        for j, b in enumerate(right, 1):
            diagonal, row[j] = row[j], diagonal + 1 if a == b else max(row[j], row[j - 1])
    return row[-1]


def _in_order(pair: Pair, against: Passage) -> float:
    ours = [n for n in _content(pair.claim) if n in against.places]
    return _common_subsequence(ours, _content(against)) / len(ours) if ours else 0.0


def _near(pair: Pair, position: int, reach: int) -> float:
    """Share of the claim's words around `position` that stand near the same word in the source."""
    claim, source = pair.claim, pair.source
    around = [claim.stems[i] for i in claim.content if 0 < abs(i - position) <= reach]
    if not around:
        return 1.0
    best = 0.0
    for place in source.places.get(claim.stems[position], ()):
        window = set(source.stems[max(0, place - _NEAR) : place + _NEAR + 1])
        best = max(best, sum(name in window for name in around) / len(around))
    return best


def _numbers(pair: Pair) -> tuple[float, float, float, float]:
    """Missing share, any missing, least context share, any with another unit."""
    claim, source = pair.claim, pair.source
    if not claim.numbers:
        return 0.0, 0.0, 1.0, 0.0
    missing = [i for i in claim.numbers if claim.stems[i] not in source.places]
    found = [i for i in claim.numbers if claim.stems[i] in source.places]
    context = min((_near(pair, i, _CLAIM_NEAR) for i in found), default=1.0)
    wrong = any(_other_unit(pair, i) for i in found)
    return len(missing) / len(claim.numbers), float(bool(missing)), context, float(wrong)


def _other_unit(pair: Pair, position: int) -> bool:
    ours = pair.claim.unit(position)
    if ours is None:
        return False
    places = pair.source.places[pair.claim.stems[position]]
    theirs = {pair.source.unit(place) for place in places}
    return ours not in theirs and None not in theirs


def _names(pair: Pair) -> tuple[float, float, float]:
    """Missing share, any missing, least context share of names."""
    claim, source = pair.claim, pair.source
    names = [n for n in claim.names if n in claim.places]
    if not names:
        return 0.0, 0.0, 1.0
    claim_initials = {i for i in claim.initials if stem(i) in source.places}
    spelled = {stem(c) for c in source.initials}
    missing = [n for n in names if n not in source.places and n not in spelled]
    if claim_initials:
        missing = [n for n in missing if not any(n[0] in i for i in claim_initials)]
    found = [n for n in names if n in source.places]
    context = min((_near(pair, claim.places[n][0], _CLAIM_NEAR) for n in found), default=1.0)
    return len(missing) / len(names), float(bool(missing)), context


def _polarity(pair: Pair) -> tuple[float, float, float]:
    """Negated here but not there, there but not here, difference in negators."""
    claim, two = pair.claim, pair.two
    added = {n for n in claim.negated if n in two.places and n not in two.negated}
    lost = {
        n
        for n in claim.asserted - claim.negated
        if n in two.negated and n not in pair.source.asserted and n in claim.places
    }
    gap = min(abs(claim.negators - two.negators), abs(claim.negators - pair.best.negators), 2)
    return float(bool(added)), float(bool(lost)), float(gap)


def _opposites(pair: Pair) -> tuple[float, float]:
    """An opposite stands in the source instead of the claim's word; the same in its sentence."""
    source, best = set(pair.source.words), set(pair.best.words)
    anywhere = local = False
    for word in set(pair.claim.words) & lexicon.OPPOSITES.keys():
        against = lexicon.OPPOSITES[word]
        anywhere |= bool(stem(word) not in pair.source.places and against & source)
        local |= bool(stem(word) not in pair.best.places and against & best)
    return float(anywhere), float(local)


def _novel(pair: Pair, words: frozenset[str]) -> float:
    claim = {w for w in pair.claim.words if w in words}
    return float(bool(claim) and not claim & set(pair.source.words))


def _hedge_lost(pair: Pair) -> float:
    hedged = lexicon.HEDGES & set(pair.best.words)
    return float(bool(hedged) and not lexicon.HEDGES & set(pair.claim.words))


def _proximity(pair: Pair) -> tuple[float, float]:
    """Mean and least share of each content word's neighbours found near it in the source."""
    shares = [
        _near(pair, i, 3) for i in pair.claim.content if pair.claim.stems[i] in pair.source.places
    ]
    return (sum(shares) / len(shares), min(shares)) if shares else (0.0, 0.0)


def vector(pair: Pair) -> npt.NDArray[np.float64]:
    """The features of `FEATURES`, in that order: measures, then steps of the graded ones."""
    measures = _measures(pair)
    steps = measures[_GRADED_AT, None] >= np.array(_STEPS)
    return np.concatenate([measures, steps.ravel().astype(np.float64)])


def _measures(pair: Pair) -> npt.NDArray[np.float64]:
    missing = _missing(pair)
    coverage = _coverage(pair.claim, pair.source, pair.idf)
    return np.array(
        [
            coverage,
            coverage**4,
            _coverage(pair.claim, pair.best, pair.idf),
            _coverage(pair.claim, pair.two, pair.idf),
            _bigrams(pair),
            _in_order(pair, pair.best),
            _in_order(pair, pair.source),
            *_proximity(pair),
            math.log1p(len(missing)),
            max((pair.idf(name) for name in missing), default=0.0),
            *_numbers(pair),
            *_names(pair),
            *_polarity(pair),
            *_opposites(pair),
            _novel(pair, lexicon.ABSOLUTES),
            _novel(pair, lexicon.CAUSES),
            _hedge_lost(pair),
            math.log1p(len(pair.claim.content)),
        ]
    )


_MEASURES = (
    "coverage", "coverage_4", "coverage_best", "coverage_two", "bigrams", "order_best",
    "order_source", "proximity_mean", "proximity_least", "missing", "missing_idf",
    "numbers_missing", "numbers_any_missing", "numbers_context", "numbers_unit", "names_missing",
    "names_any_missing", "names_context", "negation_added", "negation_lost", "negation_gap",
    "opposite", "opposite_local", "absolute_added", "cause_added", "hedge_lost", "length",
)  # fmt: skip
# Steps let a linear model weigh `all but one` and `half` apart.
_STEPS = (0.3, 0.5, 0.7, 0.85, 0.95, 0.999)
_GRADED = (
    "coverage", "coverage_best", "coverage_two", "bigrams", "order_best", "order_source",
    "proximity_mean", "proximity_least", "missing_idf", "numbers_context", "names_context",
)  # fmt: skip
_GRADED_AT = [_MEASURES.index(name) for name in _GRADED]
FEATURES = (*_MEASURES, *(f"{name}>={step}" for name in _GRADED for step in _STEPS))
