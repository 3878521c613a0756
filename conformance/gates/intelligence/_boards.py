"""What dashboards and alerts ask of Prometheus, and whether anything answers."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.gate import ProbeError
from conformance.probes.cluster import Cluster
from conformance.probes.cluster.prometheus import Prometheus
from conformance.static.monitoring import PROMISES

LABEL = "grafana_dashboard"
# Grafana's own variables; any other matches everything.
_VARIABLES = {"__rate_interval": "5m", "__interval": "1m", "__range": "1h"}
_VARIABLE = re.compile(r"\$\{?(\w+)(?::\w+)?\}?")


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel of a dashboard: where it is, its place on the board, and all that it asks."""

    board: str
    place: int
    title: str
    expressions: tuple[str, ...]

    @property
    def name(self) -> str:
        """As it is told."""
        return f"{self.board}: {self.title}"


def panels(cluster: Cluster) -> list[Panel]:
    """Every panel that asks something, of every dashboard; raises `ProbeError` when there is none."""
    found = [
        panel
        for item in cluster.list("v1", "ConfigMap", labels=LABEL)
        for file, text in sorted((item.get("data") or {}).items())
        for panel in _panels(
            f"{item['metadata']['namespace']}/{item['metadata']['name']}", file, text
        )
    ]
    if not found:
        raise ProbeError(f"no panel in any ConfigMap with the label {LABEL}")
    return found


def _panels(where: str, file: str, text: str) -> Iterator[Panel]:
    try:
        board = json.loads(text)
        flat = [*_flat(board["panels"])]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProbeError(f"{where} {file}: not a dashboard: {error!r}") from error
    for place, panel in enumerate(flat):
        asked = tuple(_expanded(t["expr"]) for t in panel.get("targets", []) if t.get("expr"))
        if asked:
            yield Panel(f"{where} {file}", place, panel.get("title", "untitled"), asked)


def _flat(items: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for item in items:
        if item.get("type") == "row":
            yield from _flat(item.get("panels") or [])
        else:
            yield item


def _expanded(expression: str) -> str:
    return _VARIABLE.sub(lambda m: _VARIABLES.get(m[1], ".*"), expression)


def without_data(prometheus: Prometheus, asked: Sequence[Panel]) -> dict[str, str]:
    """Each panel that has an expression without data, and which."""
    wrong: dict[str, str] = {}
    for panel in asked:
        empty = [e for e in panel.expressions if not has_data(prometheus, e)]
        if empty:
            wrong[panel.name] = f"no data for {'; '.join(empty)}"
    return wrong


def blind_alerts(prometheus: Prometheus) -> tuple[dict[str, str], int]:
    """Alerts that look at a series which nobody has, with the series; and how many alerts there are.

    An alert's whole expression is empty as long as all is well, so each of its selectors is asked.
    """
    rules = [
        (str(rule["name"]), str(rule["query"]))
        for group in prometheus.rule_groups()
        for rule in group.get("rules", [])
        if rule["type"] == "alerting"
    ]
    wrong: dict[str, str] = {}
    for name, query in rules:
        empty = [s for s in prometheus.selectors(query) if not has_data(prometheus, s)]
        if empty:
            wrong[f"alert {name}: {query}"] = f"no series for {'; '.join(empty)}"
    return wrong, len(rules)


def has_data(prometheus: Prometheus, expression: str) -> bool:
    """Whether it has a value now that is a number."""
    return any(not math.isnan(value) for value in _values(prometheus.query(expression)))


def _values(series: Sequence[Any]) -> Iterator[float]:
    for item in series:
        # A scalar is a pair of time and value, a series has one as `value`.
        yield float((item["value"] if isinstance(item, dict) else item)[1])


def landing(asked: Sequence[Panel], empty: Sequence[str]) -> int:
    """How many of the six metrics head a dashboard in their order, with data."""
    boards = {panel.board for panel in asked}
    return max(sum(_heads(board, asked, empty)) for board in boards)


def _heads(board: str, asked: Sequence[Panel], empty: Sequence[str]) -> Iterator[bool]:
    by_place = {panel.place: panel for panel in asked if panel.board == board}
    for place, metric in enumerate(PROMISES):
        panel = by_place.get(place)
        yield bool(panel and metric in panel.expressions[0] and panel.name not in empty)
