"""The judge: its verdicts, its files, its training pairs."""

import json
import random

import pytest

from conformance import judge
from conformance.judge import model, plant, planted, train
from conformance.judge.features import FEATURES, Idf, align, vector
from conformance.judge.pairs import Document, LabelledPair, PairMaker, split_of, usable_sentences
from conformance.judge.paraphrase import merge, paraphrase
from conformance.judge.passage import parse, without_reporting

SOURCE = (
    "Mariana Trench. The Mariana Trench lies in the western Pacific Ocean. It has an average depth "
    "of approximately 8,200 meters. The Challenger Deep reaches 10,935 meters, as measured by the "
    "Schmidt Ocean Institute in 2021. Light does not reach the bottom of the trench."
)


@pytest.fixture(scope="module")
def by():
    return judge.load()


@pytest.mark.parametrize(
    "claim",
    [
        "It has an average depth of approximately 8,200 meters.",
        "The Mariana Trench has an average depth of about 8200 meters.",
        "According to the source, the Challenger Deep reaches 10,935 meters.",
        "Light does not reach the bottom of the trench.",
    ],
)
def test_supported(by, claim):
    assert by.supports(claim, SOURCE)


@pytest.mark.parametrize(
    "claim",
    [
        "The Mariana Trench has an average depth of about 9,200 meters.",
        "The Mariana Trench has an average depth of about 8,200 feet.",
        "The Challenger Deep reaches 10,935 meters, as measured by the Scripps Institute in 2021.",
        "Light does reach the bottom of the trench.",
        "The Mariana Trench does not lie in the western Pacific Ocean.",
        "The trench was formed by the collision of two continents.",
        "",
    ],
)
def test_unsupported(by, claim):
    assert not by.supports(claim, SOURCE)


def test_without_a_source_nothing_is_supported(by):
    assert not by.supported("Light does not reach the bottom.", [])
    assert by.score("Light does not reach the bottom.", " ") == 0.0


def test_one_of_several_sources_is_enough(by):
    assert by.supported("It has an average depth of approximately 8,200 meters.", ["Else.", SOURCE])


def test_features_are_finite_and_named():
    values = vector(align("Sales rose 3%.", "", Idf(10, {})))
    assert len(values) == len(FEATURES)
    assert (values == values).all()


def test_a_model_for_other_features_is_refused(tmp_path):
    broken = tmp_path / "model.json"
    data = json.loads(model.MODEL.read_text())
    broken.write_text(json.dumps(data | {"weights": {"coverage": 1.0}}))
    with pytest.raises(judge.JudgeError, match="train"):
        model.read(broken)
    broken.write_text("{")
    with pytest.raises(judge.JudgeError, match="cannot be read"):
        model.read(broken)


def test_provenance_is_written_down():
    provenance = json.loads(model.MODEL.read_text())["provenance"]
    assert {"command", "data", "corpus_sha256", "seed", "held_out_accuracy"} <= set(provenance)


def test_passages_know_names_units_and_negations():
    passage = parse("The World Health Organization did not approve 5 mg of Zorex in Paris.")
    assert {"health", "zorex", "pari"} <= set(passage.names)
    assert "approv" in passage.negated
    assert "approv" not in passage.asserted
    assert passage.unit(passage.numbers[0]) == "mg"
    assert "who" in passage.initials
    assert without_reporting("The document states that sales rose.") == "sales rose."


def test_splits_are_stable_and_disjoint():
    assert {split_of(str(i)) for i in range(100)} == {"train", "validation", "test"}
    assert split_of("gov_002") == split_of("gov_002")


AROUND = plant.Surroundings(SOURCE, ["Atlantic Ocean", "Woods Hole"], ["Sales rose by 4% in May."])


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("entity", "The trench lies in the western Pacific Ocean."),
        ("number", "It has a depth of 8,200 meters."),
        ("exchange", "It is 8,200 meters deep and 2,550 kilometers long."),
        ("negation", "The trench is deep."),
        ("negation", "Light does not reach the bottom."),
        ("opposite", "The temperature is lower there."),
        ("unit", "It is 69 km wide."),
        ("overclaim", "It may be wider."),
        ("splice", "The trench is deep."),
    ],
)
def test_each_plant_changes_the_sentence(kind, text):
    changed = {plant.PLANTS[kind](text, AROUND, random.Random(i)) for i in range(9)} - {None}
    assert changed
    assert text not in changed


def test_plants_give_up_when_nothing_fits():
    bare, nothing = "it stands.", plant.Surroundings("", [], [])
    assert [p(bare, nothing, random.Random(1)) for p in plant.PLANTS.values()] == [None] * 8


def test_paraphrases_keep_numbers_and_negations():
    text = "In 2021, the United States did not approve 1,200 of the 5 million requests for visas."
    for seed in range(60):
        changed = paraphrase(text, random.Random(seed), 3)
        kept = changed.replace(",", "")
        assert "2021" in kept or "approve" in kept
        assert "not" in kept or "n't" in kept
    assert merge("It rose.", "He fell.", random.Random(0)).count(".") == 1


def _documents():
    texts = [
        f"The plant in Town{i} has {i + 3} turbines and may produce {i * 7 + 11} MW of power. "
        f"It was opened by Minister Alba{i} in {1950 + i} after a long and costly delay. "
        f"The output increased by {i + 2}% because of a new turbine from Vendor{i} Corp."
        for i in range(30)
    ]
    return [Document(f"d{i}", f"Plant {i}", text) for i, text in enumerate(texts)]


def test_pairs_are_reproducible_and_of_both_labels():
    first, second = list(PairMaker(_documents(), 3)), list(PairMaker(_documents(), 3))
    assert first == second
    assert {p.supported for p in first} == {True, False}
    assert {"verbatim", "paraphrase", "number", "negation", "other"} <= {p.kind for p in first}
    assert all(len(usable_sentences(d)) == 3 for d in _documents())


def test_training_learns_the_pairs():
    pairs = list(PairMaker(_documents(), 3))
    idf = train.frequencies(_documents())
    weights, intercept = train.fit(pairs, idf)
    fitted = model.Judge(weights, intercept, 0.5, idf)
    assert planted.balanced_error(planted.accuracy(fitted, pairs)).value < 0.2
    scores = train.np.array([fitted.score(p.claim, p.source) for p in pairs])
    assert 0 < train.best_threshold(scores, pairs) < 1


def test_kinds_weigh_alike():
    pairs = [LabelledPair("a", "b", True, "verbatim")] * 3 + [LabelledPair("a", "b", False, "x")]
    weights = train.kind_weights(pairs)
    assert weights[:3].sum() == pytest.approx(weights[3]) == pytest.approx(2.0)


def test_hand_labelled_rows_are_of_documents_that_training_did_not_see():
    rows = planted.labelled_rows()
    assert len(rows) >= 80
    assert {split_of(row["doc_id"]) for row in rows} == {"test"}
    assert 0.4 < sum(row["supported"] for row in rows) / len(rows) < 0.6
    assert planted.labelled_pairs([]) == []
