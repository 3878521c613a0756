"""Discovery: one gate a file; what cannot be imported is an error, never absent."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from conformance.errors import DiscoveryError
from conformance.gate import Gate, Phase

ROOT = Path(__file__).with_name("gates")


@dataclass(frozen=True, slots=True)
class Entry:
    """A gate's file: the gate it holds, or why it holds none."""

    id: str
    phase: Phase
    file: Path
    gate: Gate | None = None
    error: str = ""


def _import(root: Path, phase: Phase, file: Path) -> ModuleType:
    if root == ROOT:
        return importlib.import_module(f"conformance.gates.{phase}.{file.stem}")
    name = f"_gates_{phase}_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _gate_of(module: ModuleType, gate_id: str, phase: Phase) -> Gate:
    gate = getattr(module, "GATE", None)
    if not isinstance(gate, Gate):
        raise DiscoveryError("the module has no GATE")
    if gate.id != gate_id:
        raise DiscoveryError(f"the file is named for {gate_id}, but GATE.id is {gate.id}")
    if gate.phase is not phase:
        raise DiscoveryError(f"the file is in {phase}, but GATE.phase is {gate.phase}")
    return gate


def _entry(root: Path, phase: Phase, file: Path) -> Entry:
    gate_id = file.stem.replace("_", "-")
    try:
        return Entry(gate_id, phase, file, _gate_of(_import(root, phase, file), gate_id, phase))
    except (Exception, SystemExit) as error:
        kind = "" if isinstance(error, DiscoveryError) else f"{type(error).__name__}: "
        return Entry(gate_id, phase, file, error=f"{file.name}: {kind}{error}")


def _files(root: Path) -> Iterator[tuple[Phase, Path]]:
    phases = {str(phase) for phase in Phase}
    for file in sorted(root.rglob("*.py")):
        parts = file.relative_to(root).parts
        if any(part.startswith("_") for part in parts):
            continue
        if len(parts) != 2 or parts[0] not in phases:
            raise DiscoveryError(f"{file}: a gate belongs into {root}/{{{','.join(Phase)}}}/")
        yield Phase(parts[0]), file


def discover(root: Path = ROOT) -> dict[str, Entry]:
    """Every gate's file under `root` by id; raises `DiscoveryError` on a duplicate id."""
    if not root.is_dir():
        raise DiscoveryError(f"{root}: no such folder")
    entries: dict[str, Entry] = {}
    for phase, file in _files(root):
        entry = _entry(root, phase, file)
        if entry.id in entries:
            raise DiscoveryError(f"{file}: gate {entry.id} is also in {entries[entry.id].file}")
        entries[entry.id] = entry
    return entries
