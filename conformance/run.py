"""One run of the suite: what is planned, what came out, and the verdict."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from conformance import catalogue, corpora, plan, slo, targets
from conformance.context import RunContext, Samples
from conformance.errors import SuiteError
from conformance.gate import Gate, Phase, ProbeError, Status
from conformance.measure import Judge
from conformance.options import Settings
from conformance.parallel import AT_ONCE, Ahead
from conformance.plan import Planned
from conformance.progress import Progress
from conformance.prove import Proof
from conformance.report import seal
from conformance.slo import GateSlo, Slo
from conformance.targets.base import Target
from conformance.verdict import Judgement, Result, Verdict, judge

PRODUCTION = slo.FOLDER / "production.yaml"
SAMPLES_OF = {"demo": "DEMO SAMPLE", "prove": "PROOF SAMPLE"}  # a profile's word in the verdict


@dataclass(slots=True)
class Run:
    """The state of a run; `prepare` makes one or raises `SuiteError`."""

    settings: Settings
    slo: Slo
    target: Target
    plan: Sequence[Planned]
    progress: Progress
    total: int
    samples: Samples = field(default_factory=Samples)
    results: dict[str, Result] = field(default_factory=dict)
    proofs: dict[str, list[Proof]] = field(default_factory=dict)
    aheads: dict[bool, Ahead] = field(default_factory=dict)  # by whether its gates are `beside`
    awaited: str = ""  # the gate whose outcome is asked for: the bar is its own
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    interrupted: bool = False

    @property
    def complete(self) -> bool:
        """Whether every gate of the environment was selected, with full samples."""
        return len(self.plan) == self.total and self.settings.profile == "full"

    def context(self, entry: GateSlo, folder: str, profile: str, samples: Samples) -> RunContext:
        """A context for one measurement; its evidence goes into `folder` of the report."""
        return RunContext(
            name=entry.id,
            target=self.target,
            slo=self.slo,
            profile=profile,
            folder=self.settings.report / folder,
            parameters=entry.parameters,
            samples=samples,
            corpus_folder=self.settings.corpus,
            on_progress=partial(self._step, entry.id),
        )

    def judge(self, entry: GateSlo, profile: str) -> Judge:
        """How the gate is judged in `profile`."""
        seconds = entry.timeout_seconds or self.slo.timeout_seconds
        return Judge(entry, self.slo.profile(profile), seconds)

    def measure(self, planned: Planned) -> Result:
        """Measure one gate of the plan, or say why it is not measured."""
        result = self._unmeasured(planned)
        if result is None:
            result = self._awaited(planned)
        self.results[planned.id] = result
        return result

    def _awaited(self, planned: Planned) -> Result:
        """The outcome of a gate; those beside the others begin with the first of all."""
        self.awaited = planned.id
        try:
            self._begin(beside=True)
            if _ahead(planned):
                return self._begin(beside=_beside(planned)).outcome(planned.id)
            return self._measured(planned)
        finally:
            self.awaited = ""

    def _begin(self, *, beside: bool) -> Ahead:
        """Those beside the others, all at once, or the foundation's, a few at once."""
        if beside not in self.aheads:
            own = [p for p in self.plan if _ahead(p) and _beside(p) is beside]
            asked = [p for p in own if not self._unmeasured(p)]
            at_once = max(1, len(asked)) if beside else AT_ONCE
            self.aheads[beside] = Ahead(self._measured, asked, at_once)
        return self.aheads[beside]

    def _measured(self, planned: Planned) -> Result:
        assert planned.gate and planned.slo
        profile = self.settings.profile
        context = self.context(planned.slo, f"evidence/{planned.id}", profile, self.samples)
        return self.judge(planned.slo, profile)(planned.gate, context)

    def _step(self, gate_id: str, done: int, total: int, what: str) -> None:
        """Move the bar, unless it is that of another gate."""
        if self.awaited in ("", gate_id):
            self.progress.step(done, total, what)

    def close(self) -> None:
        """End what is still measured and clear the cluster; raises `ProbeError` if it is not."""
        for ahead in self.aheads.values():
            ahead.stop()
        if self.target.description.kubeconfig:
            from conformance.probes.cluster import clear

            clear(self.target.cluster)

    def _unmeasured(self, planned: Planned) -> Result | None:
        if planned.not_applicable:
            return _bare(planned, Status.NOT_APPLICABLE, planned.not_applicable)
        if planned.error:
            return _bare(planned, Status.ERROR, planned.error)
        if blockers := self._blockers(planned.phase):
            return _bare(planned, Status.ERROR, f"blocked by {', '.join(blockers)}")
        return None

    def _blockers(self, phase: Phase) -> list[str]:
        if self.settings.keep_going:
            return []
        earlier = list(Phase)[: list(Phase).index(phase)]
        return list(judge(r for r in self.results.values() if r.phase in earlier).blockers)

    @property
    def outcome(self) -> Judgement:
        """The verdict over what was planned; a gate without a result blocks."""
        missing = [p for p in self.plan if p.id not in self.results]
        results = [*self.results.values()]
        results += [_bare(p, Status.ERROR, "was not reached") for p in missing]
        return judge(results)

    @property
    def verdict(self) -> str:
        """GO, NO-GO, or what a GO rests on when that is less than everything: `PARTIAL GO`."""
        if self.exit_code:
            return str(Verdict.NO_GO)
        part = "PARTIAL" if len(self.plan) < self.total else ""
        sample = SAMPLES_OF.get(self.settings.profile, "")
        return " ".join(filter(None, [part, sample, str(self.outcome.verdict)]))

    @property
    def unproven(self) -> list[str]:
        """Gates whose faults were asked for and not all proven."""
        if not self.settings.prove:
            return []
        asked = [p.id for p in self.plan if not p.not_applicable]
        return [i for i in asked if not self.proofs.get(i) or not all(self.proofs[i])]

    @property
    def exit_code(self) -> int:
        """0 GO and proven where asked, 1 otherwise, 2 when the run was cut short."""
        if self.interrupted or not self.results:
            return 2
        return 0 if self.outcome.verdict is Verdict.GO and not self.unproven else 1


def _beside(planned: Planned) -> bool:
    return bool(planned.gate and planned.gate.beside)


def _ahead(planned: Planned) -> bool:
    """Whether it is measured before it is asked for."""
    return _beside(planned) or planned.phase is Phase.FOUNDATION


def _bare(planned: Planned, status: Status, reason: str) -> Result:
    gate: Gate | None = planned.gate
    return Result(
        planned.id,
        planned.phase,
        status,
        title=gate.title if gate else "",
        promise=gate.promise if gate else "",
        required=planned.required,
        reason=reason,
    )


def _environment_of(file: Path) -> str:
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["environment"])
    except OSError as error:
        raise SuiteError(f"{file}: {error.strerror}; start the platform first") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SuiteError(f"{file}: not a target description: {error!r}") from error


def _sweep(target: Target) -> None:
    from conformance.probes.cluster import sweep

    try:
        sweep(target.cluster)
    except ProbeError as error:
        raise SuiteError(f"what earlier runs left in the cluster: {error}") from error


def prepare(settings: Settings, progress: Progress) -> Run:
    """Read the numbers, find the gates, reach the target; raises `SuiteError`."""
    environment = _environment_of(settings.target)
    file = settings.slo or slo.FOLDER / f"{environment}.yaml"
    numbers = slo.load(file, PRODUCTION if settings.slo is None else None)
    if numbers.environment != environment:
        raise SuiteError(
            f"{file}: numbers of {numbers.environment}, but the target is {environment}"
        )
    numbers.profile(settings.profile)
    if settings.prove:
        numbers.profile("prove")
    entries = catalogue.discover(settings.gates_root or catalogue.ROOT)
    planned = plan.make(entries, numbers, settings.phase, settings.gate)
    total = len(plan.make(entries, numbers))
    if settings.signing_key:
        seal.private_key(settings.signing_key)
    if settings.corpus:
        corpora.load(settings.corpus)
    target = targets.load(settings.target)
    if target.description.kubeconfig:
        _sweep(target)
    return Run(settings, numbers, target, planned, progress, total)
