"""Progress on standard error: a bar on a terminal, a plain line at start and end elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


class Reporter:
    """Told of the bytes that have arrived; this one keeps quiet."""

    def start(self, what: str, total: int | None) -> None:
        """A transfer of `total` bytes (None: unknown) begins."""

    def advance(self, size: int) -> None:
        """`size` more bytes are here."""


class _Bar(Reporter):
    def __init__(self, progress: Progress, name: str) -> None:
        self.progress, self.total = progress, 0
        self.task = progress.add_task(name, total=None)

    def start(self, what: str, total: int | None) -> None:
        self.total += total or 0
        self.progress.update(self.task, total=self.total or None)

    def advance(self, size: int) -> None:
        self.progress.advance(self.task, size)


class _Lines(Reporter):
    def start(self, what: str, total: int | None) -> None:
        size = f" ({total / 1e6:.1f} MB)" if total else ""
        print(f"rag-assets: fetching {what}{size}", file=sys.stderr, flush=True)


@contextmanager
def reporting(name: str) -> Iterator[Reporter]:
    """A reporter that suits standard error."""
    console, started = Console(stderr=True), time.monotonic()
    if not console.is_terminal:
        yield _Lines()
        print(
            f"rag-assets: {name} is ready after {time.monotonic() - started:.1f} s", file=sys.stderr
        )
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield _Bar(progress, name)
