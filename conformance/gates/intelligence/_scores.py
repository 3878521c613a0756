"""How right an answer is: facts it states, and its overlap with the gold answer."""

from collections import Counter

from conformance.corpora.model import LabelledQuery
from conformance.judge.text import contains, stems, words

_ARTICLES = frozenset({"a", "an", "the"})


def fact_recall(answer: str, query: LabelledQuery) -> float:
    """Share of the question's facts that the answer states, in any accepted wording."""
    said = stems(answer)
    stated = [any(contains(said, stems(wording)) for wording in fact) for fact in query.facts]
    return sum(stated) / len(stated)


def token_f1(answer: str, gold: str) -> float:
    """SQuAD's F1 over words without articles: low for a right answer buried in copied text."""
    ours = Counter(w for w in words(answer) if w not in _ARTICLES)
    theirs = Counter(w for w in words(gold) if w not in _ARTICLES)
    common = sum((ours & theirs).values())
    return 2 * common / (sum(ours.values()) + sum(theirs.values())) if common else 0.0
