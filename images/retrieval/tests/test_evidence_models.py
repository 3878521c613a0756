import dataclasses
import hashlib
import math

import numpy as np
import pytest

from rag_common.late_interaction import pack
from rag_retrieval import evidence
from rag_retrieval.evidence import text as lexicon
from rag_retrieval.evidence.features import (
    answerability_features,
    late_scores,
    relevance_features,
)
from rag_retrieval.evidence.logistic import Logistic, ModelFileError, load
from rag_retrieval.types import Passage, QueryVectors, Retrieval
from rag_store.base import Chunk, Hit

QUESTION = "How many months is labour covered for the Model 7 pump?"
NAMES = ["relevance", "relevance_plain", "answerability", "answerability_plain", "support"]


async def embed(texts):
    rows = np.zeros((len(texts), 64), np.float32)
    for row, text in zip(rows, texts, strict=True):
        for stem in lexicon.term_list(text):
            row[int(hashlib.md5(stem.encode()).hexdigest(), 16) % 64] += 1
        row /= max(1e-6, float(np.linalg.norm(row)))
    return rows


async def tokens(text):
    return await embed(text.split())


async def retrieval(texts, question=QUESTION, late=True, strength=1.0):
    passages = []
    for n, text in enumerate(texts):
        packed = pack(await tokens(text), pool=True) if late else None
        chunk = Chunk(f"d{n}#0", f"d{n}", 0, text, (), 0, len(text), 9)
        hit = Hit(chunk, "u", "", 0.03, 0.7 * strength, n + 1, 9.0 * strength, n + 1, packed)
        passages.append(Passage(hit, 0.03))
    vectors = QueryVectors(
        (await embed([question]))[0], await tokens(question) if late else None, "m", "digest"
    )
    return Retrieval(question, vectors, passages, 5, False, {})


GOOD = "Labour is covered for 12 months for the Model 7 pump, parts for 24."
POOR = "Branch offices open at nine on weekdays."


@pytest.mark.parametrize("late", [True, False])
async def test_matching_evidence_is_worth_more(late):
    good = await retrieval([GOOD, POOR], late=late)
    poor = await retrieval([POOR], late=late, strength=0.3)
    assert 0 < evidence.relevance(poor) < evidence.relevance(good) < 1


@pytest.mark.parametrize("late", [True, False])
async def test_answerability_is_a_probability(late):
    found = await retrieval([GOOD, POOR], late=late)
    passages = await evidence.read(found.passages, embed)
    assert 0 < evidence.answerability(QUESTION, found, passages) < 1
    assert 0 < evidence.answerable_from(found) < 1


async def test_nothing_found_is_worth_nothing():
    nothing = await retrieval([])
    assert evidence.relevance(nothing) == 0.0
    assert evidence.answerability(QUESTION, nothing, []) == 0.0
    empty = await retrieval(["  "])
    assert await evidence.read(empty.passages, embed) == []


async def test_late_scores_do_not_depend_on_the_reranker():
    found = await retrieval([GOOD, POOR])
    passages = [dataclasses.replace(p, score=99.0) for p in found.candidates]
    other = dataclasses.replace(found, candidates=passages)
    assert late_scores(found) == late_scores(other)
    assert relevance_features(found) == relevance_features(other)


async def test_a_passage_without_token_vectors_means_the_plain_model():
    found = await retrieval([GOOD, POOR])
    hit = dataclasses.replace(found.candidates[1].hit, late=None)
    mixed = dataclasses.replace(found, candidates=[found.candidates[0], Passage(hit, 0.1)])
    assert late_scores(mixed) is None
    assert 0 < evidence.relevance(mixed) < 1


@pytest.mark.parametrize(
    ("question", "lacking"),
    [
        ("How many pumps are there?", "lacks_number"),
        ("When was the pump built?", "lacks_time"),
        ("Who built the pump?", "lacks_person"),
        ("Why does the pump leak?", "lacks_reason"),
    ],
)
async def test_the_kind_of_answer_that_is_missing_is_seen(question, lacking):
    found = await retrieval(["The pump leaks water at night."], question)
    features = answerability_features(question, found, await evidence.read(found.passages, embed))
    assert features[lacking] == 1.0
    told = "In March 2024 Anna Berg built 3 pumps because water leaked."
    found = await retrieval([told], question)
    features = answerability_features(question, found, await evidence.read(found.passages, embed))
    assert features[lacking] == 0.0


@pytest.mark.parametrize("name", NAMES)
def test_each_model_says_where_it_comes_from(name):
    model = load(name)
    assert model.weights
    assert all(math.isfinite(weight) for weight in model.weights.values())
    assert 0 < model.threshold < 1
    for key in ("data", "embedder", "split", "train", "held_out", "auc", "ece"):
        assert model.provenance[key]
    assert model.provenance["auc"] > 0.7


def test_a_model_that_does_not_fit_the_features_is_refused():
    model = Logistic(0.0, {"x": 1.0}, 0.5, 0.5, {})
    assert model({"x": 0.0}) == 0.5
    assert model({"x": 1e9}) == pytest.approx(1.0)
    assert model({"x": -1e9}) == pytest.approx(0.0)
    with pytest.raises(ModelFileError, match="x"):
        model({})
    with pytest.raises(ModelFileError, match="NaN"):
        model({"x": math.nan})
