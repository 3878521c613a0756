"""Proof that a gate can fail: its fault is planted, it turns red, the fault leaves, it is green."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from conformance.context import RunContext
from conformance.errors import GateTimeoutError
from conformance.gate import Fault, ProbeError, Status
from conformance.measure import interrupts_deferred, time_limit
from conformance.plan import Planned

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

    def __bool__(self) -> bool:
        return (self.before, self.during, self.after) == (Status.PASS, Status.FAIL, Status.PASS)


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
    during, reason = _with_fault(run, planned, fault, number)
    after, after_reason = _measure(run, planned, f"{number}-green/gate")
    shown = f"with the fault: {reason}" if reason else ""
    if after is not Status.PASS:
        shown = "; ".join(filter(None, [shown, f"after it: {after_reason}"]))
    return Proof(planned.id, fault.description, Status.PASS, during, after, shown)


def _with_fault(
    run: "Run", planned: Planned, fault: Fault, number: int
) -> tuple[Status | None, str]:
    folder = f"{number}-red/gate"
    status: Status | None = None
    reason = ""
    try:
        with _planted(run, planned, fault, number):
            status, reason = _measure(run, planned, folder)
    except (Exception, SystemExit, GateTimeoutError) as error:
        told = f"the fault broke: {type(error).__name__}: {error}"
        return Status.ERROR, "; ".join(filter(None, [reason, told]))
    return status, reason


@contextmanager
def _planted(run: "Run", planned: Planned, fault: Fault, number: int) -> Iterator[None]:
    """The fault is in the system inside the block; only planting it has a time limit."""
    with time_limit(run.slo.timeout_seconds):
        manager = fault.plant(_context(run, planned, f"{number}-red/fault"))
        manager.__enter__()
    error: BaseException | None = None
    try:
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        with interrupts_deferred():
            manager.__exit__(type(error) if error else None, error, None)


def _context(run: "Run", planned: Planned, folder: str) -> RunContext:
    assert planned.slo
    return run.context(planned.slo, f"proof/{planned.id}/{folder}", "prove", run.samples.fresh())


def _measure(run: "Run", planned: Planned, folder: str) -> tuple[Status, str]:
    if planned.gate is None or planned.slo is None:
        raise ProbeError("no gate to prove")
    result = run.judge(planned.slo, "prove")(planned.gate, _context(run, planned, folder))
    return result.status, result.reason
