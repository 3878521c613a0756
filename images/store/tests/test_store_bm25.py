import math

import pytest

from rag_store import bm25


def test_inflections_share_a_term_and_stop_words_have_none():
    assert bm25.term_ids("Connected connecting CONNECTION") == bm25.term_ids("connect " * 3)
    assert bm25.term_ids("the of and, don’t!") == []


def test_ids_are_stable_and_fit_every_store():
    assert bm25.term_id("policy") == 65_564_376
    ids = [bm25.term_id(f"word{n}") for n in range(5000)]
    assert all(1 <= i < bm25.DIMENSIONS < 2**31 for i in ids)
    assert len(set(ids)) == 5000


def test_unicode_forms_are_one_term():
    assert bm25.term_ids("ﬁnance STRASSE") == bm25.term_ids("finance straße")
    assert len(bm25.term_ids("東京 🙂 café")) == 2


def test_weights_saturate_and_long_documents_weigh_less():
    once, often = (bm25.document_vector("alpha " * n + "beta " * 40) for n in (1, 20))
    alpha = bm25.term_id("alpha")
    assert once[alpha] < often[alpha] < bm25.K1 + 1
    longer = bm25.document_vector("alpha " + "beta " * 400)
    assert longer[alpha] < once[alpha]


def test_the_weight_is_the_formula():
    (weight,) = bm25.document_vector("alpha alpha").values()
    norm = 1.2 * (1 - 0.75 + 0.75 * 2 / bm25.AVERAGE_LENGTH)
    assert weight == pytest.approx(2 * 2.2 / (2 + norm))


def test_idf_is_positive_and_falls_with_frequency():
    assert bm25.idf(10, 1) == pytest.approx(math.log(1 + 9.5 / 1.5))
    assert bm25.idf(10, 1) > bm25.idf(10, 5) > bm25.idf(10, 10) > 0


def test_query_terms_no_document_has_are_left_out():
    known, unknown = bm25.term_id("alpha"), bm25.term_id("omega")
    vector = bm25.query_vector("alpha omega alpha", 10, {known: 2, unknown: 0})
    assert vector == {known: bm25.idf(10, 2)}
    assert bm25.query_vector("", 10, {}) == {}
