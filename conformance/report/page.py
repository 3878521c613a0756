"""The report as one HTML page that loads nothing from anywhere."""

import functools
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from conformance.gate import Phase, Plot, Status
from conformance.report import bars, runbooks, scale
from conformance.verdict import Result

PHASES = {
    Phase.FOUNDATION: "Foundation: cluster, mesh, secrets (weeks 1–2)",
    Phase.DATA: "Data: index, retrieval, ingestion (weeks 3–4)",
    Phase.INTELLIGENCE: "Intelligence: answers, gateway, audit (weeks 5–6)",
}
STATUS = {
    Status.PASS: "passed",
    Status.FAIL: "failed",
    Status.ERROR: "error",
    Status.NOT_APPLICABLE: "not applicable",
}
_SIGNS = {"min": "≥", "max": "≤", "equals": "="}
_UNITS = {"s": "s", "seconds": "s", "hours": "h"}


def value(number: Any, unit: str = "") -> str:
    """A number for people: four significant digits, thousands set apart."""
    if not isinstance(number, int | float):
        return str(number)
    shown = f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"
    return f"{shown} {_UNITS.get(unit, unit)}".strip()


def limit(data: Mapping[str, float] | None, unit: str = "") -> str:
    """A limit for people, such as `≤ 0.5 s`."""
    if not data:
        return ""
    kind, number = next(iter(data.items()))
    return f"{_SIGNS[kind]} {value(number, unit)}"


def minutes(data: Mapping[str, Any]) -> str:
    """How long the run took."""
    began, ended = datetime.fromisoformat(data["started"]), datetime.fromisoformat(data["ended"])
    seconds = (ended - began).total_seconds()
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def headline(data: Mapping[str, Any]) -> str:
    """The verdict in one sentence."""
    required = [g for g in data["gates"] if g["required"] and g["status"] != "not-applicable"]
    passed = sum(g["status"] == "pass" for g in required)
    if data["interrupted"]:
        return "The run was cut short; what is below is what had been measured."
    return f"{passed} of {len(required)} required gates passed on {data['environment']}."


def _phases(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    result = []
    for phase, title in PHASES.items():
        gates = [g for g in data["gates"] if g["phase"] == phase]
        shown = [g for g in gates if g["status"] != "not-applicable"]
        absent = [g for g in gates if g["status"] == "not-applicable"]
        reasons: dict[str, list[str]] = {}
        for gate in absent:
            reasons.setdefault(gate["reason"], []).append(gate["id"])
        counts = {s: sum(g["status"] == s for g in gates) for s in STATUS}
        result.append(
            {"id": phase, "title": title, "gates": shown, "absent": reasons, "counts": counts}
        )
    return result


def _plots(drawn: Sequence[Plot], salt: str) -> list[Markup]:
    if not drawn:
        return []
    from conformance.report import plots  # matplotlib is slow to import

    return [plots.svg(plot, f"{salt}-{n}") for n, plot in enumerate(drawn)]


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2")


def render(folder: Path, data: Mapping[str, Any], results: Mapping[str, Result]) -> str:
    """The page's HTML; `folder` is where what it links to lies."""
    grown = scale.read()
    return _template().render(
        report=data,
        phases=_phases(data),
        plots={result.id: _plots(result.plots, result.id) for result in results.values()},
        scale=grown,
        curves=_plots(grown.plots, "scale") if grown else [],
        headline=headline(data),
        duration=minutes(data),
        status=STATUS,
        runbook=functools.partial(runbooks.link, folder),
        bar=bars.bar,
        value=value,
        limit=limit,
    )


def write(folder: Path, data: Mapping[str, Any], results: Mapping[str, Result]) -> Path:
    """Write `report.html` into `folder`."""
    path = folder / "report.html"
    path.write_text(render(folder, data, results), encoding="utf-8")
    return path
