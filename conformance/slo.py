"""The written numbers: one SLO file an environment, validated before anything is measured."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jsonschema

from conformance import marked_yaml
from conformance.errors import SloError
from conformance.gate import Phase

FOLDER = Path(__file__).with_name("slos")
PROFILES = ("full", "demo", "prove")
TIMEOUT_SECONDS = 900.0  # of a gate, where no file on the way says otherwise
_KINDS = ("min", "max", "equals")
_REASON = "smaller_because"


@dataclass(frozen=True, slots=True)
class Limit:
    """`min`, `max` or `equals` with its number."""

    kind: str
    value: float

    def holds(self, value: float) -> bool:
        """Whether a finite `value` keeps the limit."""
        if self.kind == "equals":
            return value == self.value
        return value >= self.value if self.kind == "min" else value <= self.value

    def __str__(self) -> str:
        sign = {"min": "≥", "max": "≤", "equals": "="}[self.kind]
        return f"{sign} {self.value:g}"


@dataclass(frozen=True, slots=True)
class Threshold:
    """What one metric must keep: the limit, which bound is compared, and the least sample."""

    metric: str
    limit: Limit
    bound: str = "point"
    n_min: Mapping[str, int] = field(default_factory=lambda: {"full": 1})
    unit: str = ""
    production: Limit | None = None
    reason: str = ""
    relaxed_because: str = ""
    not_in_demo: str = ""  # why a demo sample cannot judge it: there it is information only


@dataclass(frozen=True, slots=True)
class GateSlo:
    """One gate's entry: its thresholds, or why it does not apply here."""

    id: str
    phase: Phase
    required: bool = True
    not_applicable: str = ""
    reason: str = ""
    smaller_because: str = ""  # why its samples are smaller than production's
    timeout_seconds: float | None = None
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    metrics: Mapping[str, Threshold] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Profile:
    """How a sample is judged: `point_only` compares estimates, `n_min_share` scales `n_min`."""

    name: str
    point_only: bool = False
    n_min_share: float = 1.0

    def n_min(self, threshold: Threshold) -> int:
        """The least sample size of `threshold` in this profile."""
        if self.name in threshold.n_min:
            return threshold.n_min[self.name]
        return max(1, math.ceil(threshold.n_min["full"] * self.n_min_share))

    def bound(self, threshold: Threshold) -> str:
        """Which of value, low and high is compared."""
        return "point" if self.point_only else threshold.bound


@dataclass(frozen=True, slots=True)
class Slo:
    """All of an environment's SLOs."""

    file: Path
    environment: str
    digest: str
    timeout_seconds: float
    profiles: Mapping[str, Profile]
    parameters: Mapping[str, Mapping[str, Any]]
    samples: Mapping[str, Mapping[str, Mapping[str, Any]]]
    gates: Mapping[str, GateSlo]
    sample_reasons: Mapping[str, str] = field(default_factory=dict)  # why one is smaller

    def profile(self, name: str) -> Profile:
        """The profile; raises `SloError` when the file does not declare it."""
        if name not in self.profiles:
            raise SloError(f"{self.file}: profiles: {name} is not declared")
        return self.profiles[name]


def _validate(document: marked_yaml.MarkedYaml) -> None:
    schema = json.loads((FOLDER / "schema.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    error = jsonschema.exceptions.best_match(validator.iter_errors(document.data))
    if error is not None:
        raise document.error(list(error.absolute_path), error.message)


def _limit(data: Mapping[str, Any]) -> Limit:
    kind = next(k for k in _KINDS if k in data)
    return Limit(kind, float(data[kind]))


def _n_min(value: int | Mapping[str, int]) -> Mapping[str, int]:
    return {"full": value} if isinstance(value, int) else dict(value)


def _threshold(metric: str, data: Mapping[str, Any]) -> Threshold:
    return Threshold(
        metric,
        _limit(data),
        bound=data.get("bound", "point"),
        n_min=_n_min(data.get("n_min", 1)),
        unit=data.get("unit", ""),
        production=_limit(data["production"]) if "production" in data else None,
        reason=data.get("reason", ""),
        relaxed_because=data.get("relaxed_because", ""),
        not_in_demo=data.get("not_in_demo", ""),
    )


def _gate(gate_id: str, phase: str, data: Mapping[str, Any]) -> GateSlo:
    if "not_applicable" in data:
        return GateSlo(gate_id, Phase(phase), required=False, not_applicable=data["not_applicable"])
    return GateSlo(
        gate_id,
        Phase(phase),
        required=data["required"],
        reason=data.get("reason", ""),
        smaller_because=data.get("smaller_because", ""),
        timeout_seconds=data.get("timeout_seconds"),
        parameters=data.get("parameters", {}),
        metrics={name: _threshold(name, metric) for name, metric in data["metrics"].items()},
    )


def _gates(document: marked_yaml.MarkedYaml) -> dict[str, GateSlo]:
    gates: dict[str, GateSlo] = {}
    for phase, entries in document.data["gates"].items():
        for gate_id, entry in entries.items():
            path = ["gates", phase, gate_id]
            if gate_id in gates:
                raise document.error(path, "declared in two phases")
            gates[gate_id] = _gate(gate_id, phase, entry)
            _check_gate(document, path, gates[gate_id])
    return gates


def _check_gate(document: marked_yaml.MarkedYaml, path: Sequence[str], gate: GateSlo) -> None:
    if not gate.required and not gate.not_applicable and not gate.reason:
        raise document.error([*path, "required"], "a gate that is not required needs a reason")
    for name, threshold in gate.metrics.items():
        wrong = {"min": "high", "max": "low", "equals": threshold.bound}[threshold.limit.kind]
        if threshold.bound == wrong and threshold.bound != "point":
            raise document.error(
                [*path, "metrics", name, "bound"],
                f"{threshold.limit.kind} cannot be judged by the {threshold.bound} bound",
            )


def _profile(name: str, data: Mapping[str, Any]) -> Profile:
    return Profile(name, data.get("bound") == "point", float(data.get("n_min_share", 1.0)))


def _without_reason(sample: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in sample.items() if k != _REASON}


def _slo(document: marked_yaml.MarkedYaml) -> Slo:
    data = document.data
    return Slo(
        file=document.file,
        environment=data["environment"],
        digest=hashlib.sha256(document.file.read_bytes()).hexdigest(),
        timeout_seconds=float(data.get("timeout_seconds", TIMEOUT_SECONDS)),
        profiles={k: _profile(k, v) for k, v in data.get("profiles", {}).items()},
        parameters=data.get("parameters", {}),
        samples={k: _without_reason(v) for k, v in data.get("samples", {}).items()},
        gates=_gates(document),
        sample_reasons={k: v.get(_REASON, "") for k, v in data.get("samples", {}).items()},
    )


def _merged(parent: Slo, child: Slo, declared: Mapping[str, Any]) -> Slo:
    seconds = child.timeout_seconds if "timeout_seconds" in declared else parent.timeout_seconds
    return replace(
        child,
        timeout_seconds=seconds,
        digest=hashlib.sha256((child.digest + parent.digest).encode()).hexdigest(),
        profiles={**parent.profiles, **child.profiles},
        parameters=child.parameters or parent.parameters,
        samples={**parent.samples, **child.samples},
        gates={**parent.gates, **child.gates},
        sample_reasons={**parent.sample_reasons, **child.sample_reasons},
    )


def load(file: Path, production: Path | None = None) -> Slo:
    """Read and validate an SLO file, against `production` what it relaxes when that is given.

    Raises `SloError` with file, line and path.
    """
    document = marked_yaml.load(file)
    _validate(document)
    slo = _slo(document)
    if "inherits" in document.data:
        slo = _merged(load(file.with_name(document.data["inherits"])), slo, document.data)
    if "full" not in slo.profiles:
        raise document.error([], "profiles: full is missing")
    if production is not None and production.resolve() != file.resolve():
        from conformance import relaxed  # it needs what is defined here

        relaxed.check(document, slo, load(production))
    return slo


def seconds(unit: str) -> bool:
    """Whether a unit is seconds."""
    return unit in ("s", "seconds")
