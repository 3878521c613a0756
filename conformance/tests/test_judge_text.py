"""Normalised words: what counts as the same."""

import pytest

from conformance.judge.text import contains, sentences, stems, words


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("1,200 miles", "1200 miles"),
        ("62 percent", "62%"),
        ("2.0 g", "2 g"),
        ("two years", "2 years"),
        ("6.0-7.0", "6 to 7"),
        ("It doesn't work", "it does not work"),
        ("$3.4M", "3.4 million"),
        ("80mg", "80 mg"),
        ("non–linear", "non-linear"),
    ],
)
def test_same_words(left, right):
    assert words(left) == words(right)


def test_a_number_is_not_found_in_another():
    assert not contains(stems("It grew by 165%."), stems("65%"))
    assert contains(stems("It grew by 65 %."), stems("65%"))


def test_an_empty_needle_is_never_contained():
    assert not contains(stems("anything"), stems("…"))


def test_abbreviations_do_not_end_sentences():
    assert sentences("Dr. Smith left. He won 3.5 points! Yes?") == [
        "Dr. Smith left.",
        "He won 3.5 points!",
        "Yes?",
    ]
    assert sentences("") == []
