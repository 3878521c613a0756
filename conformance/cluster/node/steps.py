"""The steps of a bring-up: a bar with elapsed and expected time on a terminal, plain lines elsewhere."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.progress_bar import ProgressBar

from rag_assets import cache_dir

_WORTH_REMEMBERING_SECONDS = 2.0


class Durations:
    """How long a step took on this machine when it last had work to do."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or cache_dir() / "lab-durations.json"

    def expected(self, name: str, default: float) -> float:
        """Seconds that the step may take; `default` where it never ran."""
        return float(self._read().get(name, default))

    def remember(self, name: str, seconds: float) -> None:
        """Note a run; one that found everything done says nothing about the next."""
        if seconds < _WORTH_REMEMBERING_SECONDS:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self._read() | {name: round(seconds, 1)}))

    def _read(self) -> dict[str, float]:
        try:
            data = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        return data if isinstance(data, dict) else {}


class Steps:
    """Shows each step while it runs, and how long it took."""

    def __init__(self, console: Console | None = None, durations: Durations | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self.durations = durations or Durations()
        self._note: tuple[Progress, TaskID] | None = None

    @contextmanager
    def step(self, name: str, seconds: float) -> Iterator[None]:
        """Run the body as the step `name`, which took `seconds` where it was measured."""
        expected, started = self.durations.expected(name, seconds), time.monotonic()
        with self._shown(name, expected):
            yield
        took = time.monotonic() - started
        self.durations.remember(name, took)
        self.console.print(f"[green]✔[/] {name} [dim]{took:.1f} s[/]")

    def note(self, text: str) -> None:
        """Say what the running step is doing."""
        if self._note:
            bars, task = self._note
            bars.update(task, note=text)

    @contextmanager
    def _shown(self, name: str, expected: float) -> Iterator[None]:
        if not self.console.is_terminal:
            self.console.print(f"▸ {name} (about {expected:.0f} s)")
            yield
            return
        columns = (TextColumn("{task.description}"), _TimeBar(24), TimeElapsedColumn())
        about = TextColumn("[dim]of about {task.total:.0f} s[/] {task.fields[note]}")
        with Progress(*columns, about, console=self.console, transient=True) as bars:
            self._note = (bars, bars.add_task(name, total=expected, note=""))
            try:
                yield
            finally:
                self._note = None


class _TimeBar(BarColumn):
    """A bar that time itself moves."""

    def render(self, task: Task) -> ProgressBar:
        task.completed = min(task.elapsed or 0.0, (task.total or 1.0) * 0.98)
        return super().render(task)
