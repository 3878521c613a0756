"""report.json: everything the run found, as plain data."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance.gate import Status
from conformance.jsonable import plain
from conformance.report import machine
from conformance.slo import GateSlo, Limit
from conformance.verdict import Check, Result

if TYPE_CHECKING:
    from conformance.run import Run

SCHEMA = 1


def _limit(limit: Limit | None) -> dict[str, float] | None:
    return {limit.kind: limit.value} if limit else None


def _check(check: Check) -> dict[str, Any]:
    measured, threshold = check.measurement, check.threshold
    data: dict[str, Any] = {"metric": check.metric, "judged": check.judged}
    data["measured"] = asdict(measured) if measured else None
    if threshold:
        data |= {
            "limit": _limit(threshold.limit),
            "bound": check.bound,
            "n_min": check.n_min,
            "passed": not check.problem,
            "problem": check.problem,
            "production": _limit(threshold.production),
            "reason": threshold.reason,
        }
    return data


def _gate(result: Result, slo: GateSlo | None) -> dict[str, Any]:
    return {
        "id": result.id,
        "phase": str(result.phase),
        "title": result.title,
        "promise": result.promise,
        "required": result.required,
        "status": str(result.status),
        "reason": result.reason,
        "smaller_because": slo.smaller_because if slo else "",
        "seconds": round(result.seconds, 3),
        "checks": [_check(c) for c in result.checks],
        "notes": list(result.notes),
        "tables": [asdict(table) for table in result.tables],
        "evidence": [f"evidence/{result.id}/{name}" for name in result.evidence],
    }


def _counts(run: "Run") -> dict[str, int]:
    statuses = [r.status for r in run.results.values()]
    return {str(s): statuses.count(s) for s in Status} | {
        "not-reached": len(run.plan) - len(statuses)
    }


def record(run: "Run") -> dict[str, Any]:
    """The whole report as plain data."""
    outcome = run.outcome
    ended = datetime.now(UTC)
    data = {
        "schema": SCHEMA,
        "verdict": run.verdict,
        "exit_code": run.exit_code,
        "complete": run.complete,
        "partial": len(run.plan) < run.total,
        "interrupted": run.interrupted,
        "blockers": list(outcome.blockers),
        "unproven": run.unproven,
        "profile": run.settings.profile,
        "environment": run.slo.environment,
        "slo": {"file": run.slo.file.name, "sha256": run.slo.digest},
        "started": run.started.isoformat(timespec="seconds"),
        "ended": ended.isoformat(timespec="seconds"),
        "git": machine.revision(),  # the suite's; what the platform runs is the line below
        "judged_revision": run.target.description.revision or None,
        "machine": machine.machine(),
        "versions": machine.versions(),
        "counts": _counts(run),
        "gates": [_gate(run.results[p.id], p.slo) for p in run.plan if p.id in run.results],
        "proofs": [
            {**asdict(proof), "proven": bool(proof)}
            for proofs in run.proofs.values()
            for proof in proofs
        ],
    }
    result: dict[str, Any] = plain(data)
    return result


def write(folder: Path, data: dict[str, Any]) -> Path:
    """Write `report.json` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "report.json"
    path.write_text(
        json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )
    return path
