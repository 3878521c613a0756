"""`python -m conformance.report.summary REPORT`: a report in Markdown, for a job's summary page."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from conformance.report.page import headline, limit, value

Data = Mapping[str, Any]


def render(report: Data) -> str:
    """The verdict, what stands in its way, and every number that was judged."""
    return "\n".join([*_head(report), *_reasons(report), *_numbers(report)]) + "\n"


def _head(report: Data) -> Iterator[str]:
    yield f"# {report['verdict']} on {report['environment']}\n"
    yield headline(report)
    judged = report["judged_revision"] or report["git"]["revision"] or "an unknown revision"
    yield f"Judged `{judged}`, profile {report['profile']}, ended {report['ended']}.\n"


def _reasons(report: Data) -> Iterator[str]:
    gates = {gate["id"]: gate for gate in report["gates"]}
    for name in report["blockers"]:
        yield f"- **{name}**: {_line(gates[name]['reason']) if name in gates else 'not reached'}"
    yield from (f"- **{name}**: its faults were not all seen red" for name in report["unproven"])
    yield ""


def _numbers(report: Data) -> Iterator[str]:
    yield "| gate | status | metric | measured | limit | n |"
    yield "|---|---|---|---|---|---|"
    for gate in report["gates"]:
        judged = [check for check in gate["checks"] if check["judged"]]
        yield from (_row(gate, check) for check in judged)
        if not judged:
            yield f"| {gate['id']} | {gate['status']} | {_line(gate['reason'])} | | | |"


def _row(gate: Data, check: Data) -> str:
    measured = check["measured"]
    unit = measured["unit"] if measured else ""
    shown = (value(measured["value"], unit), value(measured["n"])) if measured else ("-", "-")
    cells = gate["id"], gate["status"], check["metric"], shown[0], limit(check["limit"], unit)
    return f"| {' | '.join(cells)} | {shown[1]} |"


def _line(text: str) -> str:
    """Text that stays in its cell."""
    return " ".join(text.replace("|", "\\|").split())


def main(arguments: list[str] | None = None) -> int:
    """Print it; 0, or 2 where there is no report."""
    (folder,) = arguments or sys.argv[1:]
    try:
        report = json.loads((Path(folder) / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        print(f"{folder}/report.json: {error}", file=sys.stderr)
        return 2
    print(render(report), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
