"""Normalised tokens: what the judge and the gold facts compare, independent of any embedding."""

import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache

import Stemmer


def word_list(text: str) -> list[str]:
    """A word class written as running text."""
    return text.split()


_NUMBER_WORDS = {
    word: str(value)
    for value, word in enumerate(
        word_list("zero one two three four five six seven eight nine ten eleven twelve")
    )
}
_STOP_WORDS = frozenset(
    word_list("""a an the this that these those it its they them their he she his her him we our you your i
    is are was were be been being am has have had having do does did of in on at by for to from with
    as into and or but than then so if while which who whom whose what when where there here also
    about approximately around roughly nearly such will would s yes short many several""")
)
_TOKEN = re.compile(r"\d+(?:\.\d+)?|%|[^\W\d_]+")
_REWRITES = [
    (re.compile(r"[‐-―−]"), "-"),
    (re.compile(r"[‘’]"), "'"),
    (re.compile(r"\bper ?cent\b"), "%"),
    (re.compile(r"(?<=\d),(?=\d{3}(?!\d))"), ""),
    (re.compile(r"(?<=\d)\s+(?:to|through)\s+(?=\d)"), " "),
    (re.compile(r"n't\b"), " not"),
    (re.compile(r"\bcannot\b"), "can not"),
]
_MAGNITUDES = [
    (re.compile(r"(?<=\d)\s?M\b(?!\w)"), " million"),
    (re.compile(r"(?<=\d)\s?(?:B|bn)\b"), " billion"),
    (re.compile(r"(?<=\d)\s?T\b"), " trillion"),
]
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+(?=[\"'“(\[]?[A-Z0-9])|\n{2,}")
_ABBREVIATION = re.compile(r"\b(?:Dr|Mr|Mrs|Ms|Prof|St|No|vs|etc|approx|Inc|e\.g|i\.e|[A-Z])\.$")
_stemmer = Stemmer.Stemmer("english")


def _canonical(token: str) -> str:
    if not token[0].isdigit():
        return _NUMBER_WORDS.get(token, token)
    value = Decimal(token)
    return format(value.normalize(), "f") if "." in token else str(int(value))


def words(text: str) -> list[str]:
    """Lower-case words and numbers in order: no commas in numbers, `%` for percent, 2.0 is 2."""
    text = unicodedata.normalize("NFKC", text)
    for pattern, replacement in _MAGNITUDES:
        text = pattern.sub(replacement, text)
    text = text.lower()
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return [_canonical(token) for token in _TOKEN.findall(text)]


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """The word's Snowball stem; numbers stay as they are."""
    return str(_stemmer.stemWord(word))


def stems(text: str) -> list[str]:
    """The stems of all words in order, stop words included."""
    return [stem(word) for word in words(text)]


def is_content(word: str) -> bool:
    """Whether the word (not its stem) carries meaning by itself."""
    return word not in _STOP_WORDS


def contains(haystack: Sequence[str], needle: Sequence[str]) -> bool:
    """Whether `needle` occurs in `haystack` as one run; an empty needle never does."""
    width = len(needle)
    if not width:
        return False
    starts = range(len(haystack) - width + 1)
    return any(list(haystack[start : start + width]) == list(needle) for start in starts)


def sentences(text: str) -> list[str]:
    """The text's sentences, stripped; abbreviations such as `Dr.` do not end one."""
    result: list[str] = []
    for part in (piece.strip() for piece in _SENTENCE_END.split(text)):
        if result and _ABBREVIATION.search(result[-1]):
            result[-1] += " " + part
        elif part:
            result.append(part)
    return result
