"""What runs, and where."""

from rich.table import Table

from ragctl.ask import target
from ragctl.console import out
from ragctl.layout import Layout
from ragctl.supervision import Supervisor

_SHOWN = ("gateway_url", "retrieval_url", "embedding_url", "llm_url", "vector_db_url", "audit_dir")


def status(layout: Layout) -> bool:
    """Print the processes and the addresses; False when the platform is down or ailing."""
    supervisor = Supervisor(layout)
    if not supervisor.is_running():
        out.print(f"the platform is down ({layout.root}); `ragctl up` starts it")
        return False
    states = supervisor.states()
    table = Table("process", "state", "", box=None, pad_edge=False)
    for name, (state, description) in states.items():
        table.add_row(name, f"[{'green' if state == 'RUNNING' else 'red'}]{state}[/]", description)
    out.print(table)
    at = target(layout)
    for name in _SHOWN:
        out.print(f"[dim]{name:<14}[/] {at[name]}")
    return all(state == "RUNNING" for state, _ in states.values())
