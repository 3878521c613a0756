"""Rules for known forms of prompt injection, read from patterns.yaml."""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from rag_guard.normalise import variants


class PatternError(Exception):
    """patterns.yaml has a rule that cannot be used; the message names it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A named pattern; `retrieved` rules also judge retrieved documents."""

    id: str
    regex: re.Pattern[str]
    retrieved: bool


def parse(source: str) -> tuple[Rule, ...]:
    """The rules of a patterns document; raises `PatternError`."""
    document = yaml.safe_load(source)
    return tuple(_rule(entry, document["words"]) for entry in document["rules"])


def _rule(entry: dict[str, Any], words: dict[str, str]) -> Rule:
    try:
        return Rule(
            entry["id"],
            re.compile(_expand("".join(entry["pattern"].split("\n")), words)),
            entry.get("retrieved", False),
        )
    except (KeyError, re.error) as error:
        raise PatternError(f"rule {entry.get('id')!r}: {error}") from error


def _expand(pattern: str, words: dict[str, str]) -> str:
    """Replace {name} by that word, whose own references are replaced too."""
    while expanded := re.search(r"\{([a-z]+)\}", pattern):
        pattern = pattern.replace(expanded.group(), words[expanded[1]])
    return pattern


@cache
def rules() -> tuple[Rule, ...]:
    """The rules of this version."""
    return parse(files("rag_guard").joinpath("patterns.yaml").read_text(encoding="utf-8"))


def first_match(text: str, *, retrieved: bool = False) -> str | None:
    """The id of the first rule that meets any reading of `text`, or None."""
    applicable = [rule for rule in rules() if rule.retrieved or not retrieved]
    for reading in variants(text):
        for rule in applicable:
            if rule.regex.search(reading):
                return rule.id
    return None
