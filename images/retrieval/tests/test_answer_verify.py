import hashlib

import numpy as np
import pytest

from rag_retrieval.answer.contradiction import negation_differs, opposite_word
from rag_retrieval.answer.verify import verify
from rag_retrieval.evidence import read
from rag_retrieval.evidence import text as lexicon
from rag_retrieval.types import Passage
from rag_store.base import Chunk, Hit

TEXT = (
    "The Model 7 pump ships with a two-year parts warranty. Labour is covered for 12 months by "
    "Grundfors Ltd. Sales increased to 1.5 million units in March 2024. Refunds are not available "
    "after 30 days. The pump is safe for drinking water."
)


async def embed(texts):
    rows = np.zeros((len(texts), 256), np.float32)
    for row, text in zip(rows, texts, strict=True):
        for stem in lexicon.term_list(text):
            row[int(hashlib.md5(stem.encode()).hexdigest(), 16) % 256] += 1
        row /= max(1e-6, float(np.linalg.norm(row)))
    return rows


async def judge(sentence, text=TEXT):
    hit = Hit(Chunk("d#0", "d", 0, text, (), 0, len(text), 9), "u", "Pump manual", 1.0)
    (passage,) = await read([Passage(hit, 1.0)], embed)
    return verify(sentence, (await embed([sentence]))[0], passage)


@pytest.mark.parametrize(
    "sentence",
    [
        "Labour is covered for 12 months by Grundfors Ltd.",
        "The Model 7 pump ships with a 2-year parts warranty.",
        "Refunds are not available after 30 days.",
        "The pump is safe for drinking water.",
    ],
)
async def test_what_the_passage_says_is_supported(sentence):
    verdict = await judge(sentence)
    assert verdict.supported, verdict
    assert 0 <= verdict.support <= 1


@pytest.mark.parametrize(
    ("sentence", "quote"),
    [
        ("Sales increased to 1,500,000 units in March 2024.", "1.5 million"),
        ("Refunds are available after 30 days.", "not available"),
        ("Is the pump safe: The pump is safe for water.", "drinking water"),
        ("Labour is covered for 12 months by Siemens Ltd.", None),
        ("Penguins live in colonies near the frozen coast.", None),
    ],
)
async def test_what_is_near_but_not_said_is_quoted(sentence, quote):
    verdict = await judge(sentence)
    assert not verdict.supported
    assert verdict.quote is None if quote is None else quote in verdict.quote


async def test_a_copied_part_of_a_sentence_is_supported():
    long = "In the manual's fourth chapter of 2021, which Ann wrote, the pump is safe for children."
    verdict = await judge("The pump is safe for children.", long)
    assert verdict.supported, verdict


@pytest.mark.parametrize(
    ("sentence", "objection"),
    [
        ("Labour is covered for 24 months by Grundfors Ltd.", "number"),
        ("Sales increased to 1.6 million units in March 2024.", "number"),
        ("The Model 9 pump ships with a two-year parts warranty.", "number"),
        ("Labour is covered for 12 months by Siemens Ltd.", "name"),
        ("Sales increased to 1.5 million units in April 2024.", "name"),
        ("Labour is not covered for 12 months by Grundfors Ltd.", "negation"),
        ("Refunds are available after 30 days.", "negation"),
        ("Sales decreased to 1.5 million units in March 2024.", "opposite"),
        ("The pump is unsafe for drinking water.", "opposite"),
        ("Penguins live in colonies near the frozen coast.", "similarity"),
        ("Is the pump safe for drinking water?", "question"),
    ],
)
async def test_swaps_are_caught(sentence, objection):
    verdict = await judge(sentence)
    assert verdict.objection == objection


def test_a_negation_in_another_clause_does_not_count():
    assert not negation_differs("The pump is safe.", "The pump is safe, but it is not cheap.")
    assert negation_differs("The pump is cheap.", "The pump is safe, but it is not cheap.")
    assert not negation_differs("The pump is safe.", "")


def test_an_opposite_counts_only_when_the_word_itself_is_absent():
    assert opposite_word("Prices rise.", ["Prices fall."])
    assert opposite_word("Prices rise.", ["Prices rise and fall."]) is None
    assert opposite_word("Prices rise.", ["Nothing about it."]) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,500 and 1.5 thousand and 1500.0", {"1500"}),
        ("three of 12", {"3", "12"}),
        ("-5 degrees, 5%", {"5"}),
        ("1.5 billion", {"1500000000"}),
        ("RSA-2048 has v2", set()),
        ("in 2019-2021", {"2019", "2021"}),
        ("none here", set()),
    ],
)
def test_numbers_in_one_spelling(text, expected):
    assert lexicon.numbers(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The pump is safe.", set()),
        ("According to Grundfors, it works.", {"grundfors"}),
        ("New York is big.", {"new", "york"}),
        ("It uses RSA-2048 and iOS.", {"rsa-2048", "ios"}),
        ("Sales rose. Costs fell.", set()),
        ("It's Dr. Smith's idea.", {"dr", "smith"}),
    ],
)
def test_names(text, expected):
    assert lexicon.names(text) == expected


def test_sentences_end_where_they_should():
    text = 'Dr. Smith of Acme Inc. said "No." It costs $5.50, e.g. today. Next!\nA line\n\nEnd'
    assert lexicon.sentences(text) == [
        'Dr. Smith of Acme Inc. said "No."',
        "It costs $5.50, e.g. today.",
        "Next!",
        "A line",
        "End",
    ]
    assert lexicon.sentences("") == []
