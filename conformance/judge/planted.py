"""How often the judge is right: on planted faults, on supported claims, on hand-labelled ones."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from conformance.gate import Measurement
from conformance.judge.model import Judge
from conformance.judge.pairs import Document, LabelledPair, PairMaker
from conformance.stats import share

LABELLED = Path(__file__).with_name("labelled.jsonl")
SUPPORTED = ("verbatim", "paraphrase", "merge")


def accuracy(judge: Judge, pairs: Iterable[LabelledPair]) -> dict[str, Measurement]:
    """Share of right verdicts by kind of pair, with intervals."""
    right: dict[str, list[bool]] = defaultdict(list)
    for pair in pairs:
        verdict = judge.supports(pair.claim, pair.source)
        right[pair.kind].append(verdict == pair.supported)
    return {kind: share(sum(found), len(found)) for kind, found in sorted(right.items())}


def report(judge: Judge, documents: Sequence[Document], seed: int) -> dict[str, Measurement]:
    """Accuracy by kind on pairs made from documents that training did not see."""
    return accuracy(judge, PairMaker(documents, seed))


def balanced_error(table: Mapping[str, Measurement]) -> Measurement:
    """Mean of the error on supported kinds and the error on planted kinds, each kind alike."""
    groups = [[m for k, m in table.items() if (k in SUPPORTED) == side] for side in (True, False)]
    errors = [sum(1 - m.value for m in group) / len(group) for group in groups]
    return Measurement(sum(errors) / 2, sum(m.n for m in table.values()))


def false_accept(table: Mapping[str, Measurement]) -> Measurement:
    """Mean share of planted faults that pass as supported, each kind alike."""
    group = [m for kind, m in table.items() if kind not in SUPPORTED]
    return Measurement(sum(1 - m.value for m in group) / len(group), sum(m.n for m in group))


def labelled_rows(file: Path = LABELLED) -> list[dict[str, Any]]:
    """Hand-labelled claims: `doc_id`, `claim`, `supported`, `kind`."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line]


def labelled_pairs(documents: Iterable[Document], file: Path = LABELLED) -> list[LabelledPair]:
    """The hand-labelled claims whose document is there."""
    known = {d.id: d for d in documents}
    return [
        LabelledPair(row["claim"], known[row["doc_id"]].source, row["supported"], row["kind"])
        for row in labelled_rows(file)
        if row["doc_id"] in known
    ]
