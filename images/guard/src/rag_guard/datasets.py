"""Labelled texts for the guard: what it learns from, where its threshold comes from, what judges it."""

import csv
import hashlib
import json
import re
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_SENTENCES_FROM_DOCUMENTS = 4000


class Labelled(NamedTuple):
    """Texts, and for each whether it is an attack."""

    texts: list[str]
    attacks: list[bool]

    def of(self, attack: bool) -> list[str]:
        """The attacks, or the benign texts."""
        return [t for t, label in zip(self.texts, self.attacks, strict=True) if label is attack]

    def __add__(self, other: "Labelled") -> "Labelled":  # type: ignore[override]
        return Labelled(self.texts + other.texts, self.attacks + other.attacks)


def benign(texts: list[str]) -> Labelled:
    """`texts` as a labelled set of benign ones."""
    return Labelled(texts, [False] * len(texts))


def s_labs(seed: Path, split: str) -> Labelled:
    """S-Labs, short English prompts; split `train`, `validation` or `test`."""
    with (seed / f"external/s-labs/{split}.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return Labelled([row["text"] for row in rows], [row["label"] == "1" for row in rows])


def neuralchemy(seed: Path, split: str) -> Labelled:
    """neuralchemy (core), long and obfuscated attacks; split `train`, `validation` or `test`."""
    table = pq.read_table(seed / f"external/neuralchemy/core-{split}.parquet")
    return Labelled(table["text"].to_pylist(), [label == 1 for label in table["label"].to_pylist()])


def in_training_half(identifier: str) -> bool:
    """Whether a question or document of fitz-gov is for training; the other half only judges."""
    return int(hashlib.sha256(identifier.encode()).hexdigest(), 16) % 10 < 5


def questions(fitz_gov: Path, *, training: bool) -> list[str]:
    """Enterprise questions of one half; no text is in both."""
    source = json.loads((fitz_gov / "queries/query_mappings.json").read_text(encoding="utf-8"))
    asked = {i: q["query"] for group in source["mappings"].values() for i, q in group.items()}
    learned = {text for i, text in asked.items() if in_training_half(i)}
    return sorted(learned if training else set(asked.values()) - learned)


def sentences(fitz_gov: Path, *, training: bool) -> list[str]:
    """At most 4,000 sentences of one half of the documents, a sample that is always the same."""
    lines = (fitz_gov / "corpus/documents.jsonl").read_text(encoding="utf-8").splitlines()
    documents = [d for d in map(json.loads, lines) if in_training_half(d["id"]) is training]
    found = {s for d in documents for s in _SENTENCE_END.split(d.get("content") or "")}
    usable = [s for s in found if 20 < len(s) < 300]
    return sorted(usable, key=lambda s: hashlib.sha256(s.encode()).digest())[
        :_SENTENCES_FROM_DOCUMENTS
    ]
