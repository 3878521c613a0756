"""Proof that a gate can fail: its fault is planted, it turns red, the fault leaves, it is green."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from conformance.context import RunContext
from conformance.errors import GateTimeoutError
from conformance.gate import Fault, ProbeError, Status
from conformance.measure import interrupts_deferred, time_limit
from conformance.plan import Planned
from conformance.verdict import red

if TYPE_CHECKING:
    from conformance.run import Run

NO_FAULT = "the gate declares no fault"


@dataclass(frozen=True, slots=True)
class Proof:
    """One fault's row of the proof table; true when red with the fault and green after it."""

    gate: str
    fault: str
    before: Status | None = None
    during: Status | None = None
    after: Status | None = None
    reason: str = ""
    red: bool = False  # failed by what the fault does, not for want of data

    def __bool__(self) -> bool:
        return self.red and (self.before, self.after) == (Status.PASS, Status.PASS)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one measurement of a proof said."""

    status: Status | None
    reason: str = ""
    red: bool = False


def prove(run: "Run", planned: Planned) -> list[Proof]:
    """Prove each fault of a gate in turn; the proofs are also kept in `run`."""
    proofs = run.proofs.setdefault(planned.id, [])
    proofs.extend(_proofs(run, planned))
    return proofs


def _proofs(run: "Run", planned: Planned) -> Iterator[Proof]:
    result = run.results.get(planned.id)
    before = result.status if result else None
    faults = planned.gate.faults if planned.gate else ()
    if not faults:
        yield Proof(planned.id, NO_FAULT, before, reason=NO_FAULT)
    for number, fault in enumerate(faults, 1):
        if before is not Status.PASS:
            yield Proof(planned.id, fault.description, before, reason="was not green before")
            continue
        proof = _prove_one(run, planned, fault, number)
        before = proof.after
        yield proof


def _prove_one(run: "Run", planned: Planned, fault: Fault, number: int) -> Proof:
    during = _with_fault(run, planned, fault, number)
    after = _measure(run, planned, f"{number}-green/gate")
    told = [f"with the fault: {during.reason}" if during.reason else ""]
    if during.status is Status.FAIL and not during.red:
        told.append("no value crossed its limit, so this is not the fault seen")
    if after.status is not Status.PASS:
        told.append(f"after it: {after.reason}")
    shown = "; ".join(filter(None, told))
    return Proof(
        planned.id, fault.description, Status.PASS, during.status, after.status, shown, during.red
    )


def _with_fault(run: "Run", planned: Planned, fault: Fault, number: int) -> _Seen:
    seen = _Seen(None)
    try:
        with _planted(run, planned, fault, number):
            seen = _measure(run, planned, f"{number}-red/gate", fault.expected)
    except (Exception, SystemExit, GateTimeoutError) as error:
        told = f"the fault broke: {type(error).__name__}: {error}"
        return _Seen(Status.ERROR, "; ".join(filter(None, [seen.reason, told])))
    return seen


@contextmanager
def _planted(run: "Run", planned: Planned, fault: Fault, number: int) -> Iterator[None]:
    """The fault is in the system inside the block; only planting it has a time limit.

    An interrupt while it is planted waits until leaving is certain to take it out again.
    """
    manager: AbstractContextManager[None] | None = None
    error: BaseException | None = None
    try:
        with interrupts_deferred(), time_limit(run.slo.timeout_seconds):
            manager = fault.plant(_context(run, planned, f"{number}-red/fault"))
            manager.__enter__()
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        if manager is not None:
            with interrupts_deferred():
                manager.__exit__(type(error) if error else None, error, None)


def _context(run: "Run", planned: Planned, folder: str) -> RunContext:
    assert planned.slo
    return run.context(planned.slo, f"proof/{planned.id}/{folder}", "prove", run.samples.fresh())


def _measure(run: "Run", planned: Planned, folder: str, expected: str = "") -> _Seen:
    if planned.gate is None or planned.slo is None:
        raise ProbeError("no gate to prove")
    result = run.judge(planned.slo, "prove")(planned.gate, _context(run, planned, folder))
    return _Seen(result.status, result.reason, red(result, expected))
