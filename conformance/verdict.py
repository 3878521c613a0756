"""Judging: a measurement against a written number. Missing data is a failure, never a pass."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from numbers import Integral
from typing import Any

from conformance.gate import Measurement, Observation, Phase, Plot, ProbeError, Status, Table
from conformance.jsonable import plain
from conformance.slo import GateSlo, Profile, Threshold, seconds

DEMO = "demo"


@dataclass(frozen=True, slots=True)
class Check:
    """One metric of a gate: measured value, what was asked, and why it does not hold if so."""

    metric: str
    measurement: Measurement | None
    threshold: Threshold | None
    n_min: int
    bound: str
    problem: str = ""
    crossed: bool = False  # the problem is the measured value, not what is missing around it

    @property
    def judged(self) -> bool:
        """False for a metric that is shown for information only."""
        return self.threshold is not None


@dataclass(slots=True)
class Result:
    """A gate's outcome with all that the report shows."""

    id: str
    phase: Phase
    status: Status
    title: str = ""
    promise: str = ""
    required: bool = True
    reason: str = ""
    checks: Sequence[Check] = ()
    notes: Sequence[str] = ()
    plots: Sequence[Plot] = ()
    tables: Sequence[Table] = ()
    evidence: Sequence[str] = ()
    seconds: float = 0.0

    def record(self) -> dict[str, Any]:
        """The result as plain data for `report.json`."""
        data: dict[str, Any] = plain(self)
        data["plots"] = [plot.title for plot in self.plots]
        return data


class Verdict(StrEnum):
    """What the run says as a whole."""

    GO = "GO"
    NO_GO = "NO-GO"


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict and the gates that stand in its way."""

    verdict: Verdict
    blockers: Sequence[str] = field(default_factory=tuple)


def _problem(measured: Measurement, threshold: Threshold, bound: str, n_min: int) -> str:
    if not isinstance(measured.n, Integral) or measured.n < n_min:
        return f"n = {measured.n}, at least {n_min} needed"
    if not _same_unit(measured.unit, threshold.unit):
        return f"measured in {measured.unit or 'no unit'}, the SLO is in {threshold.unit}"
    if not _finite(measured.value):
        return f"the value is {measured.value}"
    compared = {"point": measured.value, "low": measured.low, "high": measured.high}[bound]
    if compared is None:
        return f"the {bound} bound was not measured"
    if not _finite(compared):
        return f"the {bound} bound is {compared}"
    if not threshold.limit.holds(float(compared)):
        what = "value" if bound == "point" else f"{bound} bound"
        return f"{what} {compared:.4g} is not {threshold.limit}"
    return ""


def _crossed(measured: Measurement, threshold: Threshold, bound: str, n_min: int) -> bool:
    """Whether what is compared breaks the limit, on a sample that is large enough to say so.

    An infinite value does: a request that never ended is slower than any limit.
    """
    if not isinstance(measured.n, Integral) or measured.n < n_min:
        return False
    if not _same_unit(measured.unit, threshold.unit):
        return False
    compared = {"point": measured.value, "low": measured.low, "high": measured.high}[bound]
    number = isinstance(compared, int | float) and not math.isnan(compared)
    return number and not threshold.limit.holds(float(compared or 0))


def _finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except (TypeError, ValueError, OverflowError):
        return False


def _same_unit(measured: str, asked: str) -> bool:
    return not asked or measured == asked or (seconds(measured) and seconds(asked))


def _check(threshold: Threshold, measured: Measurement | None, profile: Profile) -> Check:
    n_min, bound = profile.n_min(threshold), profile.bound(threshold)
    if measured is None:
        return Check(threshold.metric, None, threshold, n_min, bound, "was not measured")
    problem = _problem(measured, threshold, bound, n_min)
    crossed = _crossed(measured, threshold, bound, n_min)
    return Check(threshold.metric, measured, threshold, n_min, bound, problem, crossed)


def check(observation: Observation, slo: GateSlo, profile: Profile) -> list[Check]:
    """A check for each metric of the SLO, then the metrics that no SLO asks for."""
    measured = observation.metrics
    if wrong := [k for k, v in measured.items() if not isinstance(v, Measurement | None)]:
        raise ProbeError(f"{', '.join(wrong)}: not a Measurement")
    asked = {n: t for n, t in slo.metrics.items() if not (profile.name == DEMO and t.not_in_demo)}
    judged = [_check(t, measured.get(name), profile) for name, t in asked.items()]
    extra = [
        Check(name, value, None, 1, "point")
        for name, value in measured.items()
        if name not in asked
    ]
    return judged + extra


def status_of(checks: Iterable[Check]) -> Status:
    """PASS when at least one metric was judged and none has a problem."""
    judged = [c for c in checks if c.judged]
    return Status.PASS if judged and not any(c.problem for c in judged) else Status.FAIL


def reason_of(checks: Iterable[Check]) -> str:
    """What failed, in one line."""
    return "; ".join(f"{c.metric}: {c.problem}" for c in checks if c.problem)


def red(result: Result, expected: str = "") -> bool:
    """Whether the gate saw a fault: it failed, and by a value that breaks its limit.

    A fault that hides the value instead declares in `expected` what the reason must match.
    """
    if result.status is not Status.FAIL:
        return False
    if expected:
        return re.search(expected, result.reason) is not None
    return any(c.crossed for c in result.checks if c.judged)


def judge(results: Iterable[Result]) -> Judgement:
    """GO only when there is a required gate and every required gate passed."""
    required = [r for r in results if r.required and r.status is not Status.NOT_APPLICABLE]
    blockers = [r.id for r in required if r.status is not Status.PASS]
    go = bool(required) and not blockers
    return Judgement(Verdict.GO if go else Verdict.NO_GO, blockers)
