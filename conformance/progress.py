"""Progress of a run: a bar for each gate on a terminal, plain lines otherwise."""

import sys
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.text import Text

from conformance.gate import Status

MARK = {
    Status.PASS: "PASS",
    Status.FAIL: "FAIL",
    Status.ERROR: "ERROR",
    Status.NOT_APPLICABLE: "n/a",
}
COLOUR = {
    Status.PASS: "green",
    Status.FAIL: "red",
    Status.ERROR: "magenta",
    Status.NOT_APPLICABLE: "dim",
}


class Progress(Protocol):
    """What the run tells while it goes on."""

    def start(self, name: str) -> None:
        """A gate (or a proof) begins."""

    def step(self, done: int, total: int, what: str = "") -> None:
        """The running gate has done `done` of `total`."""

    def finish(self, line: str, status: Status) -> None:
        """The running gate ended; `line` says how."""

    def verdict(self, line: str, status: Status) -> None:
        """The run as a whole; `line` says what and why."""

    def close(self) -> None:
        """The run is over."""


class Lines:
    """One plain line a gate, for a log."""

    def start(self, name: str) -> None:
        """Nothing: the line comes at the end."""

    def step(self, done: int, total: int, what: str = "") -> None:
        """Nothing: a log is not a bar."""

    def finish(self, line: str, status: Status) -> None:
        """Write the line."""
        print(f"{MARK[status]:<5} {line}", file=sys.stderr, flush=True)

    def verdict(self, line: str, status: Status) -> None:
        """Write the last line."""
        print(f"\n{line}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing to tidy."""


class Live:
    """A rich bar for the running gate, with finished gates above it."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self.task: TaskID | None = None
        self.name = ""

    def start(self, name: str) -> None:
        """Show a bar without a known total."""
        self.bars.start()
        self.name = name
        self.task = self.bars.add_task(name, total=None)

    def step(self, done: int, total: int, what: str = "") -> None:
        """Move the bar."""
        if self.task is not None:
            self.bars.update(
                self.task, completed=done, total=total, description=f"{self.name} {what}".strip()
            )

    def finish(self, line: str, status: Status) -> None:
        """Replace the bar by the gate's line."""
        if self.task is not None:
            self.bars.remove_task(self.task)
            self.task = None
        mark = Text(f"{MARK[status]:<5} ", style=COLOUR[status])
        self.console.print(mark + Text(line), soft_wrap=True)

    def verdict(self, line: str, status: Status) -> None:
        """Write the last line, in the verdict's colour."""
        self.console.print(Text(f"\n{line}", style=f"bold {COLOUR[status]}"), soft_wrap=True)

    def close(self) -> None:
        """Take the bar away."""
        self.bars.stop()


def make() -> Progress:
    """Bars when standard error is a terminal."""
    console = Console(stderr=True)
    return Live(console) if console.is_terminal else Lines()
