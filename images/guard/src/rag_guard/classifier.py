"""The verdict on a text: known patterns first, then the trained classifier."""

import re
from dataclasses import dataclass
from typing import Literal

from rag_guard.model import Model
from rag_guard.patterns import first_match

Kind = Literal["request", "retrieved"]
_BREAK = re.compile(r"(?<=[.!?\n])\s+")
_WINDOW_CHARACTERS = 300
_MOST_WINDOWS = 400


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a text is flagged, by which rule (`classifier` for the score), and the score."""

    flagged: bool
    rule: str | None
    score: float

    def as_dict(self) -> dict[str, object]:
        """The verdict as the API and the tenant token carry it."""
        return {"flagged": self.flagged, "rule": self.rule, "score": round(self.score, 4)}


def segments(text: str) -> list[str]:
    """The text, and when it is long its parts: an attack must not hide in benign bulk."""
    if len(text) <= _WINDOW_CHARACTERS:
        return [text]
    parts = [""]
    for sentence in _BREAK.split(text):
        for piece in _pieces(sentence):
            if parts[-1] and len(parts[-1]) + len(piece) > _WINDOW_CHARACTERS:
                parts.append("")
            parts[-1] = f"{parts[-1]} {piece}".strip()
    return [text, *parts[:_MOST_WINDOWS]]


def _pieces(sentence: str) -> list[str]:
    step = _WINDOW_CHARACTERS
    return [sentence[i : i + step] for i in range(0, len(sentence), step)]


class Classifier:
    """Judges texts; `threshold` replaces the one that training chose for requests."""

    def __init__(self, model: Model, threshold: float | None = None) -> None:
        self.model = model
        self.thresholds: dict[Kind, float] = {
            "request": model.request_threshold if threshold is None else threshold,
            "retrieved": model.retrieved_threshold,
        }

    def check(self, text: str, kind: Kind = "request") -> Verdict:
        """The verdict on one text."""
        score = float(self.model.scores(segments(text)).max())
        if rule := first_match(text, retrieved=kind == "retrieved"):
            return Verdict(True, rule, score)
        flagged = score >= self.thresholds[kind]
        return Verdict(flagged, "classifier" if flagged else None, score)
