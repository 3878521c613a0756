"""What a gate is: a measurement against a written number, and the faults that turn it red."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from conformance.targets.base import Target


class Phase(StrEnum):
    """The seed's three phases; a phase gates the next."""

    FOUNDATION = "foundation"
    DATA = "data"
    INTELLIGENCE = "intelligence"


class Status(StrEnum):
    """A gate's outcome. Only `PASS` counts as passed."""

    PASS = "pass"  # noqa: S105 - not a password
    FAIL = "fail"
    ERROR = "error"
    NOT_APPLICABLE = "not-applicable"


class ProbeError(Exception):
    """The measurement itself could not be made: the gate's status is error, never a verdict."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """A number with its sample size and, where it is an estimate, its 95 % interval."""

    value: float
    n: int
    low: float | None = None
    high: float | None = None
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture for the report: named series of (x, y) points, drawn as `kind`.

    `marks` are upright lines, by what happened there; `names` stand below 0, 1, 2, … of the x axis.
    """

    title: str
    x_label: str
    y_label: str
    series: Mapping[str, Sequence[tuple[float, float]]]
    kind: str = "line"  # line, step, bar or scatter
    marks: Sequence[tuple[float, str]] = ()
    names: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """Rows for the report, under a title; every cell is text."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Observation:
    """What a gate measured. The names of `metrics` are those of the SLO file."""

    metrics: Mapping[str, Measurement]
    notes: Sequence[str] = ()
    plots: Sequence[Plot] = ()
    tables: Sequence[Table] = ()


class Evidence(Protocol):
    """A folder of files that back a gate's verdict."""

    def write(self, name: str, data: Any) -> Path:
        """Write JSON (`.json`), JSON lines (`.jsonl`, an iterable) or text (anything else)."""


class Context(Protocol):
    """What a gate's functions are given."""

    @property
    def target(self) -> "Target":
        """How to reach what is judged."""

    @property
    def evidence(self) -> Evidence:
        """The gate's own evidence folder."""

    @property
    def corpus_folder(self) -> Path | None:
        """The user's own labelled corpus, or None for the built-in one."""

    def parameter(self, name: str) -> Any:
        """A sampling parameter from the SLO file, by profile; raises `ProbeError` when absent.

        The gate's own `parameters` come first, then the file's common ones. Inside `make` of a
        shared sample they are those of `samples.<name>`, so that no gate's leak into it.
        """

    def shared(self, name: str, make: Callable[["Context"], Any]) -> Any:
        """What `make` returned, computed once a run and shared between gates.

        A sample that could not be made is a `ProbeError` for every gate that asks. With a fault
        planted every sample is made afresh, but for `corpus` (see `corpora.prepared`).
        """

    def progress(self, done: int, total: int, what: str = "") -> None:
        """Move the progress bar of the running gate."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that must turn the gate red. `plant` is entered, the gate measured, then left.

    Red is a measured value beyond its limit. Where the fault leaves nothing to measure,
    `expected` is a regular expression that the gate's reason must match instead.
    """

    description: str
    plant: Callable[[Context], AbstractContextManager[None]]
    expected: str = ""


@dataclass(frozen=True, slots=True)
class Gate:
    """One promise of the platform and how it is measured. A gate's module calls this `GATE`.

    One that is measured `beside` the others begins with the run, and they need not wait for it: it only
    looks on until something happens by itself, whatever else is asked, stopped or killed meanwhile.
    """

    id: str
    phase: Phase
    title: str
    promise: str
    measure: Callable[[Context], Observation]
    faults: Sequence[Fault] = field(default_factory=tuple)
    beside: bool = False
