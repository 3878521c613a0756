"""Rules for what is watched: the six promised metrics head the dashboard and each has its alerts."""

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from conformance.static.environment import Environment
from conformance.static.finding import Finding, Object, labels_of, name_of

# The seed's six metrics and the number at which each breaks its promise.
PROMISES = {
    "rag_retrieval_latency_seconds": 0.5,
    "rag_retrieval_relevance_score_avg": 0.75,
    "rag_embedding_cache_hit_ratio": 0.40,
    "rag_grounded_response_ratio": 0.90,
    "rag_vectordb_query_latency_seconds": 0.2,
    "rag_index_staleness_hours": 2.0,
}
_MISSING = "RagMetricMissing"
RUNBOOKS = "docs/runbooks"
_COMPARED = re.compile(r"[<>]=?\s*([0-9.]+)\s*$")


def dashboard(environment: Environment) -> Iterator[Finding]:
    """A dashboard that is no JSON, or whose first six panels are not the six metrics."""
    boards = [i for i in environment.of("ConfigMap") if "grafana_dashboard" in labels_of(i)]
    if not boards:
        yield Finding("dashboard", "monitoring", "no ConfigMap with the label grafana_dashboard")
    for item in boards:
        for file, text in (item.get("data") or {}).items():
            if wrong := _board(text):
                yield Finding("dashboard", name_of(item), f"{file}: {wrong}")


def _board(text: str) -> str | None:
    try:
        panels = json.loads(text)["panels"]
        queries = [panel["targets"][0]["expr"] for panel in panels[: len(PROMISES)]]
    except (ValueError, KeyError, IndexError) as error:
        return f"not a dashboard: {error!r}"
    shown = dict(zip(PROMISES, queries, strict=False))
    missing = [name for name in PROMISES if name not in shown.get(name, "")]
    return f"{', '.join(missing)} not in place among the first panels" if missing else None


def alerts(environment: Environment) -> Iterator[Finding]:
    """A promise without an alert at its number, or one whose absence nobody is told of."""
    rules = [
        rule for item in environment.of("ConfigMap", "PrometheusRule") for rule in _rules(item)
    ]
    for name, bound in PROMISES.items():
        about = [r for r in rules if "alert" in r and name in r["expr"]]
        bounds = {float(m[1]) for r in about if (m := _COMPARED.search(r["expr"]))}
        if bounds != {bound}:
            yield Finding("alerts", name, f"alerts at {sorted(bounds)}, promised is {bound}")
        if not any(r["alert"] == _MISSING and r["labels"]["metric"] == name for r in about):
            yield Finding("alerts", name, f"no {_MISSING} when it is absent")


def runbooks(environment: Environment) -> Iterator[Finding]:
    """An alert that leads whoever is woken to no page of this repository."""
    items = list(environment.of("ConfigMap", "PrometheusRule"))
    names = {(r["alert"], _runbook(r)) for item in items for r in _rules(item) if "alert" in r}
    for name, url in sorted(names):
        page = f"{RUNBOOKS}/alerts/{name}.md"
        if not url.endswith(f"/{page}"):
            yield Finding("runbooks", name, f"annotation runbook_url does not end with /{page}")
        elif not (environment.root / page).is_file():
            yield Finding("runbooks", name, f"{page}: no such page")


def _runbook(rule: Object) -> str:
    return str((rule.get("annotations") or {}).get("runbook_url", ""))


def _rules(item: Object) -> Iterator[dict[str, Any]]:
    for group in item.get("spec", {}).get("groups") or []:
        yield from group["rules"]
    for file, text in (item.get("data") or {}).items():
        if file.endswith(".yaml") and "\ngroups:" in f"\n{text}":
            for group in (yaml.safe_load(text) or {}).get("groups") or []:
                yield from group["rules"]


RULES = (dashboard, alerts, runbooks)
