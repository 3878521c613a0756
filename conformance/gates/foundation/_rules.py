"""The rules that a Prometheus must have loaded for the six promised metrics."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from conformance.static.monitoring import PROMISES

# Histograms, whose promised quantile exists under the promised name by a recording rule only.
RECORDED = ("rag_retrieval_latency_seconds", "rag_vectordb_query_latency_seconds")
_BOUND = re.compile(r"[<>]=?\s*([0-9.]+)\s*$")
Rule = Mapping[str, Any]


def missing(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """What of the expected is not loaded or does not evaluate, and what else does not evaluate."""
    loaded = [rule for group in groups for rule in group.get("rules", [])]
    healthy = [rule for rule in loaded if _evaluates(rule)]
    absent = [what for what, is_it in expected() if not any(is_it(rule) for rule in healthy)]
    broken = [rule for rule in loaded if not _evaluates(rule)]
    return absent + [f"{r.get('name')}: {r.get('lastError') or r.get('health')}" for r in broken]


def unknown(groups: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a rule has not been evaluated once yet."""
    rules = (rule for group in groups for rule in group.get("rules", []))
    return any(rule.get("health") == "unknown" for rule in rules)


def expected() -> Iterator[tuple[str, Callable[[Rule], bool]]]:
    """The name of each rule that must be there, and what tells it."""
    for metric, bound in PROMISES.items():
        yield f"alert on {metric} at {bound:g}", _alert(metric, bound)
        yield f"alert on the absence of {metric}", _absence(metric)
    for metric in RECORDED:
        yield f"recording of the P95 as {metric}", _recording(metric)


def _alert(metric: str, bound: float) -> Callable[[Rule], bool]:
    def is_it(rule: Rule) -> bool:
        compared = _BOUND.search(rule["query"])
        same = compared is not None and float(compared[1]) == bound
        return rule["type"] == "alerting" and metric in rule["query"] and same

    return is_it


def _absence(metric: str) -> Callable[[Rule], bool]:
    asked = re.compile(rf"absent\(\s*{metric}(_count)?\s*\)")
    return lambda rule: rule["type"] == "alerting" and asked.search(rule["query"]) is not None


def _recording(metric: str) -> Callable[[Rule], bool]:
    def is_it(rule: Rule) -> bool:
        quantile = (rule.get("labels") or {}).get("quantile")
        named = rule["type"] == "recording" and rule["name"] == metric
        return named and quantile == "0.95" and f"{metric}_bucket" in rule["query"]

    return is_it


def _evaluates(rule: Rule) -> bool:
    return rule.get("health") == "ok" and not rule.get("lastError")
