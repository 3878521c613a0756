"""What ragctl prints: rich on a terminal, plain lines elsewhere."""

from rich.console import Console

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def step(message: str) -> None:
    """One line that says what begins now."""
    out.print(f"[bold cyan]▸[/] {message}")


def done(message: str) -> None:
    """One line that says what is finished."""
    out.print(f"[bold green]✔[/] {message}")
