"""Exact signs that a sentence says something else than its evidence."""

import re
from collections.abc import Sequence

from rag_retrieval.evidence import text as lexicon

_OPPOSITES = """increase decrease|increase reduce|increase decline|rise fall|rise drop|rise decline
|grow shrink|higher lower|high low|more less|more fewer|above below|before after|first last
|maximum minimum|most least|allow prohibit|allow forbid|permit prohibit|legal illegal|true false
|require optional|approve reject|accept reject|accept refuse|succeed fail|include exclude
|start end|begin end|safe unsafe|safe dangerous|effective ineffective|positive negative|hot cold
|buy sell|import export|win lose|gain lose|majority minority|always never|all none|support oppose
|improve worsen|enable disable|open close|strong weak|fast slow|early late|large small|long short
|north south|east west|left right|upper lower|inside outside|expand contract|strengthen weaken
|better worse|best worst|public private|internal external|ascend descend|profit loss"""
_CLAUSE = re.compile(
    r"[,;:()—–]|\b(?:but|although|though|while|whereas|however|and|which|that)\b", re.I
)


def _pairs() -> dict[str, frozenset[str]]:
    table: dict[str, set[str]] = {}
    for pair in _OPPOSITES.replace("\n", "").split("|"):
        a, b = lexicon.stem(pair.split())
        table.setdefault(a, set()).add(b)
        table.setdefault(b, set()).add(a)
    return {word: frozenset(others) for word, others in table.items()}


_TABLE = _pairs()


def opposite_word(sentence: str, evidence: Sequence[str]) -> str | None:
    """A word of `sentence` of which `evidence` has only the opposite."""
    there = frozenset(lexicon.stem(word for part in evidence for word in lexicon.words(part)))
    for word in lexicon.stem(lexicon.words(sentence)):
        if word in _TABLE and word not in there and _TABLE[word] & there:
            return word
    return None


def negation_differs(sentence: str, evidence: str) -> bool:
    """Whether exactly one of `sentence` and the clause of `evidence` closest to it is negated."""
    terms, negated = lexicon.terms(sentence), bool(lexicon.negations(sentence))
    if negated:
        return not lexicon.negations(evidence)
    clauses = [part for part in _CLAUSE.split(evidence) if lexicon.terms(part)]
    if not clauses:
        return False
    closest = max(clauses, key=lambda part: _closeness(terms, lexicon.terms(part)))
    return bool(lexicon.negations(closest)) and bool(terms & lexicon.terms(closest))


def _closeness(terms: frozenset[str], clause: frozenset[str]) -> tuple[int, float]:
    common = len(terms & clause)
    return common, common / len(clause)
