"""Faults planted in a true sentence, each a kind of unsupported claim."""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from conformance.judge import lexicon
from conformance.judge.text import is_content

_NAME = re.compile(r"(?<=[a-z,;:] )(?:[A-Z][\w’'-]+)(?: (?:of |and )?[A-Z][\w’'-]+){0,3}")
_NUMBER = re.compile(r"(?<![\w.,])\$?\d[\d,]*(?:\.\d+)?(?![\w]*\d)")
_AUXILIARY = re.compile(
    r"\b(is|are|was|were|has|have|can|will|may|must|should|could|does|do|did|would)\b(?! not)"
)
_VERB = re.compile(r"(?<=[a-z] )([a-z]{3,}(?:es|s))(?= (?:the|a|an|to|up|by|from|in|for|at|on)\b)")
_NEGATED = re.compile(r"\b(?:not|no longer|never) |n't\b")
_HEDGE = re.compile(r"\b(?:may|might|could) (?=[a-z])|\b(?:typically|usually|often|generally) ")
_UNIT_SWAPS = [
    ("million", "billion"), ("billion", "million"), ("mg", "g"), ("hours", "days"),
    ("days", "weeks"), ("weeks", "months"), ("months", "years"), ("years", "months"),
    ("minutes", "hours"), ("seconds", "minutes"), ("km", "miles"), ("miles", "kilometers"),
    ("meters", "feet"), ("feet", "meters"), ("kg", "lbs"), ("MB", "GB"), ("GB", "TB"),
    ("pounds", "kilograms"), ("inches", "centimeters"), ("trillion", "billion"), ("ms", "seconds"),
    ("Celsius", "Fahrenheit"), ("gallons", "liters"), ("liters", "gallons"), ("acres", "hectares"),
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a swap takes its false material from."""

    document: str
    names: Sequence[str]
    clauses: Sequence[str]


Plant = Callable[[str, Surroundings, random.Random], str | None]


def names(text: str) -> list[str]:
    """Capitalised names inside sentences."""
    found = _NAME.findall(text)
    return [name for name in found if is_content(name.split()[0].lower())]


def _put(text: str, match: re.Match[str], value: str) -> str:
    return text[: match.start()] + value + text[match.end() :]


def entity(text: str, around: Surroundings, rng: random.Random) -> str | None:
    """Another name in place of one: from the same document or from another."""
    found = [m for m in _NAME.finditer(text) if is_content(m.group().split()[0].lower())]
    if not found:
        return None
    gone = rng.choice(found)
    here = [n for n in names(around.document) if n not in text and gone.group() not in n]
    elsewhere = [n for n in around.names if n not in around.document]
    pool = here if here and rng.random() < 0.4 else elsewhere
    return _put(text, gone, rng.choice(pool)) if pool else None


def _perturbed(number: str, rng: random.Random) -> str:
    digits = [i for i, c in enumerate(number) if c.isdigit()]
    place = rng.choice(digits)
    other = rng.choice([d for d in "123456789" if d != number[place]])
    return number[:place] + other + number[place + 1 :]


def number(text: str, around: Surroundings, rng: random.Random) -> str | None:
    """Another number in place of one: from the same document, or with a digit changed."""
    found = list(_NUMBER.finditer(text))
    if not found:
        return None
    gone = rng.choice(found)
    here = [n for n in _NUMBER.findall(around.document) if n not in text]
    if here and rng.random() < 0.4:
        return _put(text, gone, rng.choice(here))
    changed = _perturbed(gone.group(), rng)
    return _put(text, gone, changed) if changed not in around.document else None


def exchange(text: str, _: Surroundings, rng: random.Random) -> str | None:
    """Two numbers of the sentence change places."""
    found = list(_NUMBER.finditer(text))
    if len(found) < 2:
        return None
    left, right = sorted(rng.sample(found, 2), key=lambda m: m.start())
    if left.group() == right.group() or re.fullmatch(
        r"\s*(?:-|–|to|and)\s*", text[left.end() : right.start()]
    ):
        return None
    return _put(_put(text, right, left.group()), left, right.group())


def negation(text: str, _: Surroundings, rng: random.Random) -> str | None:
    """The opposite statement: a negation added or removed."""
    if removed := _NEGATED.search(text):
        return _put(text, removed, "")
    if found := _AUXILIARY.search(text):
        word = found.group()
        return _put(text, found, rng.choice([f"{word} not", f"{word} never"]))
    if found := _VERB.search(text):
        verb = found.group()
        base = verb[:-2] if verb.endswith(("ches", "shes", "sses")) else verb[:-1]
        return _put(text, found, f"does not {base}")
    return None


def opposite(text: str, _: Surroundings, rng: random.Random) -> str | None:
    """A word becomes its opposite: increase, decrease."""
    found = [m for m in re.finditer(r"\b[a-z]+\b", text) if m.group() in lexicon.OPPOSITES]
    if not found:
        return None
    gone = rng.choice(found)
    return _put(text, gone, rng.choice(sorted(lexicon.OPPOSITES[gone.group()])))


def unit(text: str, _: Surroundings, rng: random.Random) -> str | None:
    """Another unit after a number."""
    usable = [(p, w) for p, w in _UNIT_SWAPS if re.search(rf"\d[ -]?{p}\b", text)]
    if not usable:
        return None
    old, new = rng.choice(usable)
    return re.sub(rf"(\d[ -]?){old}\b", rf"\g<1>{new}", text, count=1)


def overclaim(text: str, _: Surroundings, rng: random.Random) -> str | None:
    """A hedge dropped together with an absolute added."""
    hedge = _HEDGE.search(text)
    if hedge and rng.random() < 0.6:
        return _put(text, hedge, rng.choice(["always ", "definitely ", "will always "]))
    if found := _AUXILIARY.search(text):
        word = rng.choice(["always", "only", "definitely", "completely"])
        return _put(text, found, f"{found.group()} {word}")
    return None


def splice(text: str, around: Surroundings, rng: random.Random) -> str | None:
    """A clause of another document appended to a true sentence."""
    if not around.clauses:
        return None
    clause = rng.choice(around.clauses).rstrip(".")
    clause = clause[0].lower() + clause[1:] if clause[1:2].islower() else clause
    return (
        text.rstrip(".")
        + rng.choice([", and ", " because ", ", which is why ", "; "])
        + clause
        + "."
    )


PLANTS: dict[str, Plant] = {
    "entity": entity,
    "number": number,
    "exchange": exchange,
    "negation": negation,
    "opposite": opposite,
    "unit": unit,
    "overclaim": overclaim,
    "splice": splice,
}
