"""What can be compared exactly in a text: sentences, terms, numbers, names, negation."""

import re
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from functools import lru_cache

import Stemmer

_STOP = """
a about above after again all also am an and any are as at be because been before being below
between both but by can could did do does doing during each few for from further had has have
having he her here hers him his how however i if in into is it its itself just may me might more
most must my of off on once only or other our out over own per she should so some such than that
the their them then there these they this those through to too under until up upon very was we
were what when where which while who whom whose why will with would you your yes according
no nor not never please tell describe explain give list many much s t re ve ll d
"""
STOP_WORDS = frozenset(_STOP.split())
_ABBREVIATION = re.compile(
    r"(?:\b(?:Dr|Mr|Mrs|Ms|Prof|St|Jr|Sr|vs|etc|e\.g|i\.e|U\.S|U\.K|No|Inc|Ltd|Co|Corp|approx|Fig"
    r"|Art|Sec|al|[A-Z])\.)$"
)
_BOUNDARY = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][\"')\]]))\s+(?=[\"'(\[]?[A-Z0-9])|\n+")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:['’][a-z]+)?")
_NUMBER = re.compile(
    r"(?<![A-Za-z0-9.])(?<![A-Za-z]-)[-−]?\d+(?:,\d{3})*(?:\.\d+)?"
    r"(?:\s*(thousand|million|billion|trillion|k|m|bn)\b)?",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9'’&.\-]*[A-Za-z0-9]|[A-Za-z0-9]")
_LETTERS_WITH_DIGIT = re.compile(r"[A-Za-z]+-?\d")
_POSSESSIVE = re.compile(r"['’]s$")
_INNER = re.compile(r"[-.&]")
_SCALE = {"thousand": 3, "k": 3, "million": 6, "m": 6, "billion": 9, "bn": 9, "trillion": 12}
_COUNTING = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen twenty
"""
_WORD_NUMBERS = {word: str(value) for value, word in enumerate(_COUNTING.split())} | {
    "twice": "2",
    "thirty": "30",
    "forty": "40",
    "fifty": "50",
    "hundred": "100",
}
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|neither|nor|without|cannot|nobody|nothing|lacks?|lacking|fail(?:s|ed)?"
    r"|unable|absent|absence|rarely|hardly)\b|n['’]t\b",
    re.IGNORECASE,
)


@lru_cache(maxsize=1)
def _stemmer() -> Stemmer.Stemmer:
    return Stemmer.Stemmer("english")


def sentences(text: str) -> list[str]:
    """The sentences of `text`, also split at line breaks; abbreviations do not end one."""
    parts: list[str] = []
    for piece in _BOUNDARY.split(text):
        piece = piece.strip()
        if parts and _ABBREVIATION.search(parts[-1]):
            parts[-1] = f"{parts[-1]} {piece}"
        elif piece:
            parts.append(piece)
    return parts


def words(text: str) -> list[str]:
    """Lower-case words in order."""
    return [word.lower().replace("’", "'") for word in _WORD.findall(text)]


def stem(tokens: Iterable[str]) -> list[str]:
    """Their stems by the English Snowball stemmer."""
    stems: list[str] = _stemmer().stemWords([token.removesuffix("'s") for token in tokens])
    return stems


def term_list(text: str) -> list[str]:
    """Stems of the content words, in order."""
    return stem(word for word in words(text) if word not in STOP_WORDS and len(word) > 1)


def terms(text: str) -> frozenset[str]:
    """The set of stems of the content words."""
    return frozenset(term_list(text))


def _normal(value: str, scale: str | None) -> str:
    try:
        number = abs(Decimal(value.replace(",", "").replace("−", "-")))
    except InvalidOperation:
        return value
    shifted = number.scaleb(_SCALE.get((scale or "").lower(), 0))
    return format(shifted.normalize(), "f")


def numbers(text: str) -> frozenset[str]:
    """The numbers of `text` in one spelling: `1,500`, `1.5 thousand` and `1500` are the same."""
    written = {_normal(m[0].removesuffix(m[1] or "").strip(), m[1]) for m in _NUMBER.finditer(text)}
    spoken = {_WORD_NUMBERS[word] for word in words(text) if word in _WORD_NUMBERS}
    return frozenset(written | spoken)


def names(text: str) -> frozenset[str]:
    """Tokens that look like names: capitals inside a sentence, acronyms, letters with digits."""
    found: set[str] = set()
    for sentence in sentences(text):
        tokens = _TOKEN.findall(sentence)
        for position, token in enumerate(tokens):
            following = tokens[position + 1 : position + 2]
            if _looks_like_name(token, position == 0, following):
                found.add(_bare(token))
    return frozenset(found)


def _looks_like_name(token: str, first: bool, following: list[str]) -> bool:
    if not any(c.isalpha() for c in token) or _bare(token) in STOP_WORDS:
        return False
    if any(c.isupper() for c in token[1:]) or _LETTERS_WITH_DIGIT.match(token):
        return True
    if not token[0].isupper():
        return False
    return not first or bool(following and following[0][0].isupper())


def _bare(token: str) -> str:
    return _POSSESSIVE.sub("", token).rstrip(".").lower()


def tokens(text: str) -> frozenset[str]:
    """Every token of `text` as `names` spells them, and the parts of hyphenated ones."""
    found = {_bare(token) for token in set(_TOKEN.findall(text))}
    return frozenset(found | {part for token in found for part in _INNER.split(token)})


def negations(text: str) -> int:
    """How many words of negation `text` has."""
    return len(_NEGATION.findall(text))
