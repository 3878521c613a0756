"""The gold answers: labels that exist, are held out, and stand in a relevant document."""

import json

import pytest

from conformance.corpora import fitz_gov
from conformance.corpora.fitz_gov import GOLD, held_out
from conformance.corpora.gold import forbidden
from conformance.corpora.gold.forbidden import ForbiddenClaims, compiled
from conformance.errors import CorpusError
from conformance.judge.text import contains, stems

pytestmark = pytest.mark.network
ROWS = [json.loads(line) for line in GOLD.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def corpus():
    return fitz_gov.load()


def test_there_are_enough_and_none_twice():
    ids = [row["query_id"] for row in ROWS]
    assert len(ids) >= 170
    assert len(set(ids)) == len(ids)
    assert len({row["answer"] for row in ROWS}) > 0.95 * len(ROWS)


def test_every_question_exists_and_is_held_out(corpus):
    known = {query.id: query for query in corpus.answerable}
    assert all(held_out(row["query_id"]) for row in ROWS)
    assert not [row["query_id"] for row in ROWS if row["query_id"] not in known]
    assert len(corpus.gold) == len(ROWS)


def test_every_fact_stands_in_a_relevant_document(corpus):
    text = {d.id: stems(f"{d.title}. {d.text}") for d in corpus.documents}
    wrong = [
        (query.id, fact[0])
        for query in corpus.gold
        for fact in query.facts
        if not any(contains(text[name], stems(fact[0])) for name in query.relevant)
    ]
    assert not wrong


def test_every_gold_answer_states_its_facts(corpus):
    wrong = [
        (query.id, fact)
        for query in corpus.gold
        for fact in query.facts
        if not any(contains(stems(query.answer), stems(wording)) for wording in fact)
    ]
    assert not wrong


def test_no_document_is_copied_at_length(corpus):
    text = {d.id: stems(d.text) for d in corpus.documents}
    for query in corpus.gold:
        said = stems(query.answer)
        runs = [said[i : i + 25] for i in range(max(0, len(said) - 24))]
        assert not [r for r in runs for name in query.relevant if contains(text[name], r)], query.id


def test_forbidden_claims_are_read(corpus):
    claims = forbidden.load()
    assert len([q for q in corpus.queries if q.id in claims]) > 100
    assert all(c.patterns for c in claims.values())


def test_a_forbidden_claim_is_found_unless_allowed_or_sourced():
    claims = ForbiddenClaims(compiled([r"\$\d+"]), compiled([r"not \$\d+"]))
    assert claims.found("It costs $500.", []) == ["$500"]
    assert claims.found("It is not $500.", []) == []
    assert claims.found("It costs $500.", ["The price is 500 dollars."]) == []
    assert claims.found("It costs a lot.", []) == []


def test_a_broken_pattern_or_folder_is_named(tmp_path):
    with pytest.raises(CorpusError, match="forbidden claim"):
        compiled(["("])
    with pytest.raises(CorpusError, match=r"grounding\.json"):
        forbidden.read(tmp_path)
