"""What a gate is given while it measures: target, parameters, evidence and shared samples."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from conformance.gate import ProbeError
from conformance.jsonable import plain
from conformance.slo import Slo
from conformance.targets.base import Target

Progress = Callable[[int, int, str], None]
LASTING = frozenset({"corpus"})


class EvidenceFolder:
    """The folder of files that back a gate's verdict, written while it measures."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, data: Any) -> Path:
        """Write JSON (`.json`), JSON lines (`.jsonl`, an iterable) or text (anything else)."""
        path = self.folder / name
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise ValueError(f"{name}: outside the evidence folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_text(path.suffix, data), encoding="utf-8")
        return path

    def files(self) -> list[str]:
        """Names of the files written so far."""
        return sorted(
            str(p.relative_to(self.folder)) for p in self.folder.rglob("*") if p.is_file()
        )


def _text(suffix: str, data: Any) -> str:
    if suffix == ".json":
        return json.dumps(plain(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if suffix == ".jsonl":
        rows: Iterable[Any] = data
        return "".join(json.dumps(plain(row), ensure_ascii=False) + "\n" for row in rows)
    return str(data)


@dataclass(slots=True)
class Samples:
    """Samples that gates share: each made once; a failed one fails every gate that asks."""

    values: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, ProbeError] = field(default_factory=dict)

    def fresh(self) -> "Samples":
        """Samples to be made anew, but for those that must outlive a planted fault."""
        return Samples({k: v for k, v in self.values.items() if k in LASTING})

    def get(self, name: str, make: Callable[[], Any]) -> Any:
        """The sample `name`, made on first use; raises `ProbeError` when that failed."""
        if name in self.failures:
            raise self.failures[name]
        if name not in self.values:
            try:
                self.values[name] = make()
            except Exception as error:
                self.failures[name] = ProbeError(
                    f"shared sample {name}: {type(error).__name__}: {error}"
                )
                raise self.failures[name] from error
        return self.values[name]


@dataclass(frozen=True, slots=True)
class RunContext:
    """The `Context` of one measurement; `parameters` come from the SLO file, by profile."""

    name: str
    target: Target
    slo: Slo
    profile: str
    folder: Path
    parameters: Mapping[str, Mapping[str, Any]]
    samples: Samples
    corpus_folder: Path | None = None
    on_progress: Progress = lambda done, total, what: None

    @property
    def evidence(self) -> EvidenceFolder:
        """The gate's own evidence folder."""
        return EvidenceFolder(self.folder)

    def parameter(self, name: str) -> Any:
        """The gate's (or sample's) own parameter, else the file's common one, by profile."""
        for table in (self.parameters, self.slo.parameters):
            for profile in (self.profile, "all"):
                if name in table.get(profile, {}):
                    return table[profile][name]
        raise ProbeError(
            f"{self.slo.file.name} has no parameter {name} for {self.name} (profile {self.profile})"
        )

    def shared(self, name: str, make: Callable[["RunContext"], Any]) -> Any:
        """What `make` returned, once a run; it sees the parameters of sample `name` only."""
        context = replace(
            self,
            name=name,
            folder=self.folder.parent / f"sample-{name}",
            parameters=self.slo.samples.get(name, {}),
        )
        return self.samples.get(name, lambda: make(context))

    def progress(self, done: int, total: int, what: str = "") -> None:
        """Move the progress bar of the running gate."""
        self.on_progress(done, total, what)
