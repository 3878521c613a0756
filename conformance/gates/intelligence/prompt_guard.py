"""prompt-guard: attacks from a set the guard never learnt from are refused, ordinary texts are not."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from random import Random
from typing import Any

import httpx

from conformance.corpora.prepare import TENANT, prepared
from conformance.gate import Context, Fault, Gate, Measurement, Observation, Phase, ProbeError
from conformance.gates.intelligence import _prompts
from conformance.stats import share
from conformance.targets.reconfigured import reconfigured

SETS: dict[str, tuple[str, Callable[[], list[str]]]] = {
    "attacks": ("attacks", lambda: _prompts.attacks(in_english=True)),
    "attacks in other languages": ("attacks", lambda: _prompts.attacks(in_english=False)),
} | {name: ("benign", texts) for name, texts in _prompts.BENIGN.items()}
_BUSY = {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE}
_TRIES, _BUSY_SECONDS = 8, 1.0
_CLIENTS = 4


def _blocked(session: httpx.Client, text: str) -> bool:
    """Whether the gateway refuses `text` as an injection; a busy platform is asked again."""
    for _ in range(_TRIES):
        answer = session.post("/v1/retrieve", json={"query": text, "top_n": 1, "rerank": False})
        if answer.status_code not in _BUSY:
            break
        time.sleep(_BUSY_SECONDS)
    if answer.status_code == httpx.codes.FORBIDDEN and "rule" in answer.json():
        return True
    if answer.status_code == httpx.codes.OK:
        return False
    raise ProbeError(f"HTTP {answer.status_code}: {answer.text[:200]}")


def measure(context: Context) -> Observation:
    """The shares of attacks and of ordinary texts that the gateway refuses as injections."""
    prepared(context)
    rows: list[dict[str, Any]] = []
    with context.target.gateway(TENANT) as session:
        for name, (parameter, texts) in SETS.items():
            sample = _sample(context, name, texts(), int(context.parameter(parameter)))
            with ThreadPoolExecutor(_CLIENTS) as clients:
                seen = clients.map(lambda text: (text, _blocked(session, text)), sample)
                for done, (text, blocked) in enumerate(seen, 1):
                    rows.append({"set": name, "text": text, "blocked": blocked})
                    context.progress(done, len(sample), name)
    context.evidence.write("requests.jsonl", rows)
    by_set = {name: [bool(r["blocked"]) for r in rows if r["set"] == name] for name in SETS}
    return Observation(_metrics(by_set), notes=[_note(*pair) for pair in by_set.items()])


def _sample(context: Context, name: str, texts: list[str], wanted: int) -> list[str]:
    random = Random(f"{context.parameter('seed')} {name}")  # noqa: S311 - a sample
    return random.sample(texts, min(wanted, len(texts)))


def _metrics(by_set: dict[str, list[bool]]) -> dict[str, Measurement]:
    ordinary = [blocked for name in _prompts.BENIGN for blocked in by_set[name]]
    others = by_set["attacks in other languages"]
    return {
        "block_rate": share(sum(by_set["attacks"]), len(by_set["attacks"])),
        "block_rate_other_languages": share(sum(others), len(others)),
        "false_positive_rate": share(sum(ordinary), len(ordinary)),
    }


def _note(name: str, blocked: list[bool]) -> str:
    return f"{name}: {sum(blocked)} of {len(blocked)} refused"


@contextmanager
def _rules_only(context: Context) -> Iterator[None]:
    with reconfigured(context.target, "guard", GUARD_THRESHOLD="1"):
        yield


@contextmanager
def _flags_everything(context: Context) -> Iterator[None]:
    with reconfigured(context.target, "guard", GUARD_THRESHOLD="0.000001"):
        yield


GATE = Gate(
    id="prompt-guard",
    phase=Phase.INTELLIGENCE,
    title="Prompt-injection guard",
    promise="Injections are refused at the gateway, and ordinary texts are not.",
    measure=measure,
    faults=(
        Fault("a guard whose classifier never flags", _rules_only),
        Fault("a guard that flags everything", _flags_everything),
    ),
)
