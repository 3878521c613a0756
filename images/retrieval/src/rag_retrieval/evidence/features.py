"""What a retrieval tells about itself: features of relevance and of answerability."""

import re
from collections.abc import Callable, Sequence

import numpy as np

from rag_common.late_interaction import maxsim
from rag_retrieval.evidence import text as lexicon
from rag_retrieval.evidence.reading import ReadPassage
from rag_retrieval.types import Retrieval

Features = dict[str, float]
COMPARED = 5

_ASKS_NUMBER = re.compile(
    r"\b(?:how (?:many|much|long|often|far|large|big|high|old|fast|tall)|what (?:percent(?:age)?|"
    r"number|rate|share|proportion|amount|cost|price|is the (?:\w+ ){0,3}(?:rate|cost|price|number|"
    r"percentage|budget|salary|population|size|speed|temperature|dose|dosage)))\b",
    re.IGNORECASE,
)
_ASKS_TIME = re.compile(
    r"\b(?:when|what (?:year|date|day|time)|which year|since when)\b", re.IGNORECASE
)
_ASKS_PERSON = re.compile(r"\b(?:who|whom|whose)\b", re.IGNORECASE)
_ASKS_REASON = re.compile(r"\b(?:why|what causes?|how come|reasons?)\b", re.IGNORECASE)
_ASKS_MANNER = re.compile(
    r"\bhow (?:do|does|did|can|should|is|are|to|would|could|will)\b|\bsteps?\b", re.IGNORECASE
)
_ASKS_YES_NO = re.compile(
    r"^(?:is|are|was|were|do|does|did|can|could|should|will|would|has|have|had)\b", re.IGNORECASE
)
_TIME = re.compile(
    r"\b(?:1[0-9]{3}|20[0-9]{2})\b|\b(?:january|february|march|april|may|june|july|august|september"
    r"|october|november|december|monday|tuesday|wednesday|thursday|friday|century)\b",
    re.IGNORECASE,
)
_REASON = re.compile(
    r"\b(?:because|due to|caus\w+|result\w* (?:of|from|in)|leads? to|led to|since|therefore|driven by)\b",
    re.IGNORECASE,
)


def _share(part: frozenset[str], whole: frozenset[str]) -> float:
    return len(part & whole) / len(part) if part else 1.0


def _share_in(part: frozenset[str], text: str, read: Callable[[str], frozenset[str]]) -> float:
    """`_share` of what `read` finds in `text`, which is read only when it matters."""
    return _share(part, read(text)) if part else 1.0


def late_scores(retrieval: Retrieval) -> list[float] | None:
    """MaxSim of the first passages, whatever reranker ordered them; None without token vectors."""
    first, tokens = retrieval.candidates[:COMPARED], retrieval.vectors.late
    scores = [p.maxsim for p in first if p.maxsim is not None]
    if len(scores) == len(first):
        return scores
    packed = [p.hit.late for p in first if p.hit.late]
    if tokens is None or not len(tokens) or len(packed) < len(first):
        return None
    return [float(score) for score in maxsim(tokens, packed)]


def _rank(rank: int | None) -> float:
    return 1 / rank if rank else 0.0


def relevance_features(retrieval: Retrieval) -> Features:
    """Features of the first passage against the others; the retrieval must not be empty.

    Those of late interaction are absent when the index or the query has no token vectors.
    """
    hit = retrieval.candidates[0].hit
    terms = lexicon.terms(retrieval.query)
    text = f"{hit.document_title}\n{hit.chunk.text}"
    lexical = hit.lexical_score or 0.0
    return _late_features(retrieval) | {
        "dense": hit.dense_score or 0.0,
        "lexical": lexical,
        "lexical_per_term": lexical / max(1, len(terms)),
        "dense_rank": _rank(hit.dense_rank),
        "lexical_rank": _rank(hit.lexical_rank),
        "both_first": float(hit.dense_rank == 1 and hit.lexical_rank == 1),
        "coverage": _share(terms, lexicon.terms(text)),
        "names": _share_in(lexicon.names(retrieval.query), text, lexicon.tokens),
        "numbers": _share_in(lexicon.numbers(retrieval.query), text, lexicon.numbers),
        "terms": min(len(terms), 20) / 10,
    }


def _late_features(retrieval: Retrieval) -> Features:
    scores = late_scores(retrieval)
    if scores is None:
        return {}
    padded = [*scores, 0.0, 0.0]
    return {
        "late": scores[0],
        "late_margin_2": scores[0] - padded[1],
        "late_margin_3": scores[0] - padded[2],
        "late_margin_mean": scores[0] - sum(scores) / len(scores),
    }


def answerability_features(
    question: str, retrieval: Retrieval, passages: Sequence[ReadPassage]
) -> Features:
    """Features of all passages read for the answer; `passages` must not be empty."""
    features = relevance_features(retrieval)
    features |= _sentence_features(question, retrieval, passages)
    features |= _union_features(question, passages)
    features |= _type_features(question, passages[0])
    return features


def _sentence_features(
    question: str, retrieval: Retrieval, passages: Sequence[ReadPassage]
) -> Features:
    query, terms = retrieval.vectors.dense, lexicon.terms(question)
    cosines = [passage.vectors @ query for passage in passages]
    best = np.sort(np.concatenate(cosines))[::-1]
    coverage = [_share(terms, found) for p in passages for found in p.sentence_terms]
    return {
        "sentence": float(best[0]),
        "sentence_2": float(best[1]) if len(best) > 1 else 0.0,
        "sentence_first": float(cosines[0].max()),
        "sentence_mean": float(cosines[0].mean()),
        "sentence_coverage": max(coverage),
        "first_sentence_coverage": max(
            _share(terms, found) for found in passages[0].sentence_terms
        ),
    }


def _union_features(question: str, passages: Sequence[ReadPassage]) -> Features:
    terms, names = lexicon.terms(question), lexicon.names(question)
    numbers = lexicon.numbers(question)
    return {
        "best_coverage": max(_share(terms, passage.terms) for passage in passages),
        "union_coverage": _share(terms, frozenset().union(*(p.terms for p in passages))),
        "best_names": max(_share(names, passage.tokens) for passage in passages),
        "missing_names": float(len(names - passages[0].tokens)),
        "best_numbers": max(_share(numbers, passage.numbers) for passage in passages),
        "asks_names": float(bool(names)),
        "passages": len(passages) / 5,
    }


def _type_features(question: str, first: ReadPassage) -> Features:
    text = first.passage.hit.chunk.text
    has_number, has_time = bool(lexicon.numbers(text)), bool(_TIME.search(text))
    has_name, has_reason = bool(lexicon.names(text)), bool(_REASON.search(text))
    asks = {
        "number": (bool(_ASKS_NUMBER.search(question)), has_number),
        "time": (bool(_ASKS_TIME.search(question)), has_time),
        "person": (bool(_ASKS_PERSON.search(question)), has_name),
        "reason": (bool(_ASKS_REASON.search(question)), has_reason),
    }
    features = {f"asks_{kind}": float(asked) for kind, (asked, _) in asks.items()}
    features |= {f"lacks_{kind}": float(asked and not has) for kind, (asked, has) in asks.items()}
    return features | {
        "asks_manner": float(bool(_ASKS_MANNER.search(question))),
        "asks_yes_no": float(bool(_ASKS_YES_NO.search(question))),
        "length": min(len(text), 2000) / 1000,
    }
