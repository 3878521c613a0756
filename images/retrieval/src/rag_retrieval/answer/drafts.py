"""Reads the model's draft while it is still being written, and when it was cut off."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from rag_retrieval.evidence.text import sentences

_CITATION = re.compile(r"\s*\[?\b(S\d{1,3})\b\]?(?:\s*,\s*)?")
_ENDS = re.compile(r"[.!?][\"')\]]*$")


@dataclass(frozen=True, slots=True)
class Draft:
    """A sentence as the model wrote it, with the labels of the sources that it names."""

    text: str
    labels: tuple[str, ...]


class DraftReader:
    """Takes pieces of the stream and gives back the sentences that are complete."""

    def __init__(self) -> None:
        self.text = ""
        self._given = 0

    def feed(self, piece: str) -> Iterator[Draft]:
        """The sentences that `piece` completes."""
        self.text += piece
        # Only a quote, bracket or brace can complete an item.
        if any(mark in piece for mark in '"]}'):
            yield from self._new(_items(self.text, whole=False))

    def finish(self) -> Iterator[Draft]:
        """What is left at the end of the stream; a sentence that was cut off is not given."""
        yield from self._new(_items(self.text, whole=True))

    @property
    def well_formed(self) -> bool:
        """Whether the text is the JSON that was asked for, perhaps cut off."""
        return _parse(self.text) is not None

    def _new(self, drafts: list[Draft]) -> Iterator[Draft]:
        new, self._given = drafts[self._given :], max(self._given, len(drafts))
        yield from new


def _parse(text: str) -> list[Any] | None:
    start = text.find("{")
    try:
        value = from_json(
            text[start:].removesuffix("```").rstrip(), allow_partial="trailing-strings"
        )
    except ValueError:
        return None
    answer = value.get("answer") if isinstance(value, dict) else None
    return answer if isinstance(answer, list) else None


def _closed(text: str) -> int:
    """How many items' texts the model itself has closed."""
    try:
        value = from_json(text[text.find("{") :], allow_partial=True)
        return sum("text" in item for item in value.get("answer", []) if isinstance(item, dict))
    except (ValueError, AttributeError, TypeError):
        return 0


def _items(text: str, *, whole: bool) -> list[Draft]:
    items = _parse(text)
    if items is None:
        return _plain(text) if whole else []
    closed = _closed(text)
    drafts: list[Draft] = []
    for position, item in enumerate(items):
        if position < closed:
            drafts += _drafts(item, cut=False)
        elif whole:
            drafts += _drafts(item, cut=True)
    return drafts


def _drafts(item: Any, *, cut: bool) -> list[Draft]:
    if not isinstance(item, dict) or not isinstance(item.get("text"), str):
        return []
    cited = item.get("sources") or item.get("source") or []
    labels = (
        [cited] if isinstance(cited, str) else [label for label in cited if isinstance(label, str)]
    )
    # What follows a full stop at the cut is unknown: "It costs $5." may have gone on with "50".
    whole = sentences(item["text"])[: -1 if cut else None]
    return [_draft(text, labels) for text in whole]


def _draft(text: str, labels: list[str]) -> Draft:
    found = [*labels, *_CITATION.findall(text)]
    return Draft(_CITATION.sub("", text).strip(), tuple(dict.fromkeys(found)))


def _plain(text: str) -> list[Draft]:
    """Prose with labels in brackets, from a server without structured output."""
    if text.lstrip().startswith(("{", "[", "`")):
        return []
    drafts = [
        _draft(sentence, [])
        for sentence in sentences(text)
        if _ENDS.search(_CITATION.sub("", sentence))
    ]
    return [draft for draft in drafts if draft.text]
