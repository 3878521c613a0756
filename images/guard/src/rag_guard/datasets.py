"""Labelled texts for the guard: what it learns from, where its thresholds come from, what judges it."""

import csv
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import yaml

NEURALCHEMY = "external/neuralchemy/core-{}.parquet"
UNSEEN = "external/yanismiraoui/prompt_injections.csv"


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
    import pyarrow.parquet as pq  # of the extra `training`

    table = pq.read_table(seed / NEURALCHEMY.format(split))
    return Labelled(table["text"].to_pylist(), [label == 1 for label in table["label"].to_pylist()])


def unseen(seed: Path) -> list[str]:
    """yanismiraoui, attacks in several languages: they judge only, nothing is learnt from them."""
    with (seed / UNSEEN).open(encoding="utf-8", newline="") as file:
        return sorted({row["prompt_injections"] for row in csv.DictReader(file)})


def in_training_half(identifier: str) -> bool:
    """Whether a question, document or text is for training; the other half only judges."""
    return int(hashlib.sha256(identifier.encode()).hexdigest(), 16) % 10 < 5


def small_talk(corpus: Path, *, training: bool) -> list[str]:
    """Harmless small talk in thirteen languages, one half."""
    said: set[str] = set()
    for path in corpus.rglob("*.yml"):
        talks = yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"]
        said.update(text for talk in talks for text in talk)
    return sorted(text for text in said if in_training_half(text) is training)


def questions(fitz_gov: Path, *, training: bool) -> list[str]:
    """Enterprise questions of one half; no text is in both."""
    source = json.loads((fitz_gov / "queries/query_mappings.json").read_text(encoding="utf-8"))
    asked = {i: q["query"] for group in source["mappings"].values() for i, q in group.items()}
    learned = {text for i, text in asked.items() if in_training_half(i)}
    return sorted(learned if training else set(asked.values()) - learned)


def documents(fitz_gov: Path, *, training: bool) -> list[str]:
    """The texts of one half of the enterprise documents."""
    lines = (fitz_gov / "corpus/documents.jsonl").read_text(encoding="utf-8").splitlines()
    found = [d for d in map(json.loads, lines) if in_training_half(d["id"]) is training]
    return [d["content"] for d in found if d.get("content")]
