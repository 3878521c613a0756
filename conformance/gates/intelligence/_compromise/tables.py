"""The review as files and as tables of the report."""

import csv
import io
from collections.abc import Sequence

from conformance.gate import Table
from conformance.gates.intelligence._compromise.attempts import DECLARED, REFUSED, WRONG, Judged

HEAD = ("workload", "family", "attempt", "what happened", "judged", "why")


def csv_of(rows: Sequence[Judged]) -> str:
    """Every attempt, a line each."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(HEAD)
    writer.writerows(_cells(row) for row in rows)
    return text.getvalue()


def _cells(row: Judged) -> tuple[str, ...]:
    a = row.attempt
    return (a.who, a.family, a.what, a.told, row.state, row.why)


def summary(rows: Sequence[Judged]) -> Table:
    """A line for each workload: what was refused, and what it can do."""
    families = sorted({row.attempt.family for row in rows})
    lines = []
    for who in sorted({row.attempt.who for row in rows}):
        own = [row for row in rows if row.attempt.who == who]
        lines.append((who, *(_cell(own, family) for family in families)))
    title = "Attempts of each workload: refused + declared (+ findings)"
    return Table(title, ("workload", *families), lines)


def _cell(own: Sequence[Judged], family: str) -> str:
    states = [row.state for row in own if row.attempt.family == family]
    if not states:
        return "–"
    wrong = sum(state in WRONG for state in states)
    told = f"{states.count(REFUSED)} + {states.count(DECLARED)}"
    return f"{told} + {wrong} FOUND" if wrong else told


def powers(rows: Sequence[Judged]) -> Table:
    """What a compromised pod of each workload can do by design."""
    lines = [
        (a.who, a.family, a.what, row.why)
        for row in rows
        if row.state == DECLARED and (a := row.attempt)
    ]
    return Table("What worked, as declared", ("workload", "family", "can", "why"), lines)


def findings(rows: Sequence[Judged]) -> Table:
    """What is beyond what is declared, or short of it."""
    return Table("Findings", HEAD, [_cells(row) for row in rows if row.state in WRONG])


def markdown(tables: Sequence[Table]) -> str:
    """The tables as Markdown."""
    return "\n".join(_markdown(table) for table in tables)


def _markdown(table: Table) -> str:
    rows = [table.head, ["---"] * len(table.head), *table.rows]
    lines = ["| " + " | ".join(_escaped(cell) for cell in row) + " |" for row in rows]
    return "\n".join([f"## {table.title}", "", *lines, ""])


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
