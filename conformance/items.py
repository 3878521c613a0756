"""Gates as pytest items: measured in set-up, judged in the call, so a probe's error stays one."""

import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from conformance import report
from conformance.gate import ProbeError, Status
from conformance.measure import interrupts_deferred
from conformance.plan import Planned
from conformance.prove import Proof, prove
from conformance.run import Run
from conformance.verdict import Result


class GateFailed(Exception):  # noqa: N818 - a verdict, not an error
    """The measured values do not keep the written numbers."""


class GateError(Exception):
    """The gate could not be measured."""


class Item(pytest.Item):
    """Common to gates and proofs: one line on failure, no traceback of the suite's own code."""

    run: Run
    planned: Planned

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str:
        """The reason alone; anything unexpected keeps its traceback."""
        if isinstance(excinfo.value, GateFailed | GateError):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo, style))

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where the item is shown to come from."""
        return self.path, None, self.name


class GateItem(Item):
    """One gate."""

    result: Result

    def setup(self) -> None:
        """Measure; a gate that could not be measured is an error, not a failure."""
        self.run.progress.start(self.planned.id)
        self.result = self.run.measure(self.planned)
        self.run.progress.finish(_line(self.result), self.result.status)
        if self.result.status is Status.NOT_APPLICABLE:
            pytest.skip(self.result.reason)
        if self.result.status is Status.ERROR:
            raise GateError(self.result.reason)

    def runtest(self) -> None:
        """Judge."""
        if self.result.status is not Status.PASS:
            raise GateFailed(self.result.reason)


class ProofItem(Item):
    """All faults of one gate."""

    def runtest(self) -> None:
        """Plant each fault, see red, remove it, see green."""
        if self.planned.not_applicable:
            pytest.skip(self.planned.not_applicable)
        self.run.progress.start(f"prove {self.planned.id}")
        proofs = prove(self.run, self.planned)
        good = bool(proofs) and all(proofs)
        status = Status.PASS if good else Status.FAIL
        self.run.progress.finish(_proof_line(self.planned.id, proofs), status)
        if not good:
            raise GateFailed(
                "; ".join(f"{p.fault}: {p.reason or p.during}" for p in proofs if not p)
            )


class Catalogue(pytest.Collector):
    """All gates of the run, then their proofs."""

    run: Run

    def collect(self) -> Iterator[Item]:
        """One item a gate and, with `--prove`, one a gate's faults."""
        kinds: list[tuple[type[Item], str]] = [(GateItem, "")]
        if self.run.settings.prove:
            kinds.append((ProofItem, "[prove]"))
        for kind, suffix in kinds:
            for planned in self.run.plan:
                item = kind.from_parent(self, name=f"{planned.phase}/{planned.id}{suffix}")
                item.run, item.planned = self.run, planned
                yield item


class RunPlugin:
    """The hooks of an awake plugin."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.on_terminate: Any = signal.SIG_DFL

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> bool:
        """Collect the gates and nothing else."""
        root = Catalogue.from_parent(session, name="conformance", nodeid="conformance")
        root.run = self.run
        session.items = list(root.collect())
        session.config.hook.pytest_collection_modifyitems(
            session=session, config=session.config, items=session.items
        )
        session.testscollected = len(session.items)
        return True

    def pytest_sessionstart(self) -> None:
        """A polite kill cleans up like Ctrl-C."""

        def interrupt(_: int, __: FrameType | None) -> None:
            raise KeyboardInterrupt

        self.on_terminate = signal.signal(signal.SIGTERM, interrupt)

    def pytest_report_teststatus(self) -> tuple[str, str, str]:
        """The progress bar tells it, not pytest's dots."""
        return "", "", ""

    def pytest_keyboard_interrupt(self) -> None:
        """Remember that the run was cut short."""
        self.run.interrupted = True

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the report and turn the verdict into the exit code."""
        self._close()
        self.run.progress.close()
        signal.signal(signal.SIGTERM, self.on_terminate)
        if exitstatus not in (0, 1) or session.config.option.collectonly:
            self.run.interrupted = exitstatus != 0
        if session.config.option.collectonly:
            return
        self._report()
        session.exitstatus = self.run.exit_code

    def _close(self) -> None:
        """Leave nothing behind; a run that does has not ended well."""
        try:
            with interrupts_deferred():
                self.run.close()
        except (ProbeError, KeyboardInterrupt) as error:
            self.run.interrupted = True
            self.run.progress.finish(f"left in the cluster: {error}", Status.ERROR)

    def _report(self) -> None:
        """The report, then the verdict; without a report there is none, whatever was measured."""
        try:
            written = report.write(self.run)
        except Exception as error:
            told = f"conformance: the report in {self.run.settings.report} cannot be written: "
            pytest.exit(f"{told}{type(error).__name__}: {error}", returncode=2)
        status = Status.FAIL if self.run.exit_code else Status.PASS
        self.run.progress.verdict(f"{written.verdict}. {written.headline} {written.page}", status)


def _line(result: Result) -> str:
    checks = [c for c in result.checks if c.judged and c.measurement]
    values = ", ".join(f"{c.metric} {c.measurement.value:.4g}" for c in checks if c.measurement)
    told = result.reason if result.status is not Status.PASS else values
    optional = (
        "" if result.required or result.status is Status.NOT_APPLICABLE else " (not required)"
    )
    return f"{result.id}{optional}: {told} [{result.seconds:.1f} s]"


def _proof_line(gate: str, proofs: list[Proof]) -> str:
    red = sum(map(bool, proofs))
    told = "; ".join(f"{p.fault}: {p.reason or p.during}" for p in proofs if not p)
    return f"prove {gate}: {red} of {len(proofs)} faults seen red, then green{told and ': ' + told}"
