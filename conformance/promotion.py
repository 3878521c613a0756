"""`python -m conformance.promotion REPORT ...`: may this revision go to production?

Exit code: 0 it may; 1 refused, one line a reason; 2 the question itself could not be asked.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from conformance import slo
from conformance.errors import SuiteError
from conformance.report import seal
from conformance.slo import Slo

RUNS_IT = "flux-converged"  # the gate that has seen the cluster at the declared revision
_AHEAD = timedelta(minutes=5)  # how far the clock of the machine that judged may be ahead
_COMMIT = re.compile(r"[0-9a-f]{40}")
Report = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Promotion:
    """What is asked for: the revision, the environment that it was judged in, and how long ago."""

    revision: str
    numbers: Slo
    hours: float
    now: datetime


def refusals(folder: Path, asked: Promotion, public_key: Path) -> list[str]:
    """Why the report in `folder` lets nothing pass, a line each; empty when it does.

    Raises `SuiteError` when the public key is none.
    """
    if problems := seal.verify(folder, public_key):
        return problems  # nothing in it can be believed
    if "report.json" not in seal.sealed(folder):
        return [f"report.json: not among {seal.CHECKSUMS}"]
    try:
        report = json.loads((folder / "report.json").read_bytes())
        return list(_refusals(report, asked))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"report.json: not a report of this suite: {error!r}"]


def _refusals(report: Report, asked: Promotion) -> Iterator[str]:
    yield from _about(report, asked)
    yield from _of_age(datetime.fromisoformat(report["ended"]), asked)
    yield from _whole(report)
    yield from _gates({g["id"]: g for g in report["gates"]}, asked.numbers)


def _about(report: Report, asked: Promotion) -> Iterator[str]:
    """Another environment, revision or set of numbers than what is asked for."""
    numbers = asked.numbers
    if report["environment"] != numbers.environment:
        yield f"environment: judged {report['environment']}, asked for {numbers.environment}"
    elif report["slo"]["sha256"] != numbers.digest:
        yield f"slo: judged by other numbers than those of {numbers.file.name}"
    suite, judged = report["git"], report["judged_revision"] or ""
    if suite["revision"] != asked.revision:
        yield f"revision: the suite was that of {suite['revision']}, asked for {asked.revision}"
    if suite["dirty"] is not False:
        yield "revision: the suite's checkout had changes that are not committed"
    if judged.rpartition("@sha1:")[2] != asked.revision:
        yield f"revision: judged {judged or 'a platform of no declared revision'}"


def _of_age(ended: datetime, asked: Promotion) -> Iterator[str]:
    age = asked.now - ended
    if age > timedelta(hours=asked.hours):
        yield f"expired: ended {age / timedelta(hours=1):.1f} h ago, allowed are {asked.hours:g} h"
    if age < -_AHEAD:
        yield f"expired: ended at {ended.isoformat()}, which is still to come"


def _whole(report: Report) -> Iterator[str]:
    """No GO, or one of less than every gate with its full sample."""
    if report["verdict"] != "GO":
        yield f"verdict: {report['verdict']} {', '.join(report['blockers'])}".rstrip()
    if report["profile"] != "full":
        yield f"partial: a {report['profile']} sample"
    if report["partial"] or report["interrupted"] or not report["complete"]:
        yield "partial: not every gate of the environment was measured"


def _gates(measured: dict[str, Report], numbers: Slo) -> Iterator[str]:
    required = [gate.id for gate in numbers.gates.values() if gate.required]
    for gate_id in dict.fromkeys([*required, RUNS_IT]):
        if gate_id not in measured:
            yield f"{gate_id}: required, and missing from the report"
        elif measured[gate_id]["status"] != "pass":
            yield f"{gate_id}: required, and its status is {measured[gate_id]['status']}"


def _commit(text: str) -> str:
    if not _COMMIT.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no commit of 40 hexadecimal digits")
    return text


def _hours(text: str) -> float:
    if not 0 < (hours := float(text)) <= 24 * 30:
        raise argparse.ArgumentTypeError(f"{text} h is not between 0 and 30 days")
    return hours


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m conformance.promotion")
    parser.add_argument("report", type=Path, help="folder of the report")
    parser.add_argument("--revision", type=_commit, required=True, help="the commit to promote")
    parser.add_argument("--environment", required=True, help="where it was judged")
    parser.add_argument("--public-key", type=Path, required=True, help="Ed25519, PEM")
    parser.add_argument("--hours", type=_hours, default=72.0, help="how old it may be (72)")
    parser.add_argument("--slos", type=Path, default=slo.FOLDER, help="folder of the numbers")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask; 0 promoted, 1 refused, 2 could not be asked."""
    given = _parser().parse_args(arguments)
    try:
        file = given.slos / f"{given.environment}.yaml"
        numbers = slo.load(file, given.slos / "production.yaml")
        asked = Promotion(given.revision, numbers, given.hours, datetime.now(UTC))
        refused = refusals(given.report, asked, given.public_key)
    except SuiteError as error:
        print(f"promotion: {error}", file=sys.stderr)
        return 2
    for reason in refused:
        print(f"refused: {reason}")
    if not refused:
        print(f"promoted: {given.revision} was GO on {given.environment}")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
