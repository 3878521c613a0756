"""What an answer must not claim: fitz-gov's regular expressions for questions that invite invention."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.errors import CorpusError
from conformance.judge.text import contains, stems

_FILES = ("tier0_sanity/grounding.json", "tier1_core/grounding.json")


@dataclass(frozen=True, slots=True)
class ForbiddenClaims:
    """Patterns of claims that the sources do not make, and phrases in which they are harmless."""

    patterns: tuple[re.Pattern[str], ...]
    allowed: tuple[re.Pattern[str], ...] = ()

    def found(self, answer: str, sources: Iterable[str]) -> list[str]:
        """The forbidden claims in `answer` that no source states word for word."""
        spans = [match.span() for pattern in self.allowed for match in pattern.finditer(answer)]
        known = [stems(source) for source in sources]
        matches = [match for pattern in self.patterns for match in pattern.finditer(answer)]
        return [
            match.group()
            for match in matches
            if not any(start <= match.start() and match.end() <= end for start, end in spans)
            and not any(contains(source, stems(match.group())) for source in known)
        ]


def compiled(patterns: Iterable[str], *, flags: int = re.IGNORECASE) -> tuple[re.Pattern[str], ...]:
    """The patterns; raises `CorpusError` naming one that is not a regular expression."""
    result = []
    for pattern in patterns:
        try:
            result.append(re.compile(pattern, flags))
        except re.error as error:
            raise CorpusError(f"forbidden claim {pattern!r}: {error}") from error
    return tuple(result)


def _lenient(patterns: Iterable[str], flags: int) -> tuple[re.Pattern[str], ...]:
    """As the package reads them: what is no regular expression is meant literally."""
    result = []
    for pattern in patterns:
        try:
            result.append(re.compile(pattern, flags))
        except re.error:
            result.append(re.compile(re.escape(pattern), flags))
    return tuple(result)


def _claims(case: Mapping[str, Any]) -> ForbiddenClaims:
    settings = case.get("evaluation_config", {})
    flags = re.IGNORECASE if settings.get("case_insensitive", True) else 0
    patterns = case["forbidden_claims"]
    if not settings.get("use_regex", False):
        patterns = [re.escape(pattern) for pattern in patterns]
    allowed = settings.get("allowed_phrases", ())
    return ForbiddenClaims(_lenient(patterns, flags), _lenient(allowed, flags))


def read(folder: Path) -> dict[str, ForbiddenClaims]:
    """Forbidden claims by query id from the asset's folder; raises `CorpusError`."""
    result: dict[str, ForbiddenClaims] = {}
    for name in _FILES:
        try:
            cases = json.loads((folder / name).read_text(encoding="utf-8"))["cases"]
            for case in cases:
                if case.get("forbidden_claims"):
                    result[case["id"]] = _claims(case)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorpusError(f"{folder / name}: not fitz-gov's cases: {error!r}") from error
    if not result:
        raise CorpusError(f"{folder}: no forbidden claims")
    return result


def load() -> dict[str, ForbiddenClaims]:
    """Fetch the asset and read them."""
    from rag_assets import AssetError, fetch

    try:
        return read(fetch("fitz-gov"))
    except AssetError as error:
        raise CorpusError(str(error)) from error
