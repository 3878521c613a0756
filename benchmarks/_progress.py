"""Progress on standard error."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")
_console = Console(stderr=True)


def bar(items: Sequence[T], what: str) -> Iterable[T]:
    """`items`, with a bar that moves as they are taken; without a terminal it is drawn once."""
    return track(items, what, console=_console)


def say(what: str) -> None:
    """A line that tells which step begins."""
    _console.print(what, highlight=False)
