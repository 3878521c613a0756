"""What will be measured: the catalogue on disk held against the SLO file."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from conformance.catalogue import Entry
from conformance.errors import SuiteError
from conformance.gate import Gate, Phase
from conformance.slo import GateSlo, Slo


@dataclass(frozen=True, slots=True)
class Planned:
    """A gate of the run: to be measured, declared not applicable, or already in error."""

    id: str
    phase: Phase
    gate: Gate | None
    slo: GateSlo | None
    error: str = ""

    @property
    def required(self) -> bool:
        """A gate that nobody declared blocks GO like a required one."""
        return self.slo.required if self.slo else True

    @property
    def not_applicable(self) -> str:
        """Why the gate does not apply here, or ''."""
        return self.slo.not_applicable if self.slo else ""


def _planned(gate_id: str, entry: Entry | None, slo: GateSlo | None) -> Planned:
    if slo and slo.not_applicable:
        return Planned(gate_id, slo.phase, entry.gate if entry else None, slo)
    if entry is None:
        assert slo is not None
        return Planned(
            gate_id, slo.phase, None, slo, "the SLO file names it, no module measures it"
        )
    if slo is None:
        return Planned(gate_id, entry.phase, entry.gate, None, "the SLO file does not name it")
    if entry.error:
        return Planned(gate_id, entry.phase, None, slo, entry.error)
    if entry.phase is not slo.phase:
        return Planned(gate_id, entry.phase, None, slo, f"the SLO file has it in {slo.phase}")
    return Planned(gate_id, entry.phase, entry.gate, slo)


def _check_selection(known: Collection[str], gates: Collection[str]) -> None:
    if unknown := sorted(set(gates) - set(known)):
        raise SuiteError(f"--gate {', '.join(unknown)}: no such gate; known: {', '.join(known)}")


def make(
    entries: Mapping[str, Entry],
    slo: Slo,
    phases: Collection[str] = (),
    gates: Collection[str] = (),
) -> list[Planned]:
    """Every selected gate, by phase, in the SLO file's order; raises `SuiteError` if none is."""
    ids = [*slo.gates, *(i for i in entries if i not in slo.gates)]
    _check_selection(ids, gates)
    every = [_planned(i, entries.get(i), slo.gates.get(i)) for i in ids]
    chosen = [
        p for p in every if (not phases or p.phase in phases) and (not gates or p.id in gates)
    ]
    if not any(not p.not_applicable for p in chosen):
        raise SuiteError(f"nothing to measure: {len(chosen)} gates selected, none applies here")
    order = list(Phase)
    return sorted(chosen, key=lambda p: order.index(p.phase))
