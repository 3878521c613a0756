"""`ragctl cluster`: the lab, a Kubernetes cluster that Flux keeps equal to this checkout."""

import sys

import click
from rich.table import Table

from conformance.cluster.node import flux
from conformance.cluster.node.provider import NodeCluster
from ragctl.console import done, out
from ragctl.layout import Layout


def _lab() -> NodeCluster:
    return NodeCluster(Layout.from_environment().root / "lab")


@click.group()
def cluster() -> None:
    """The lab: a real cluster on this machine, synced by Flux from this checkout."""


@cluster.command()
def up() -> None:
    """Make the lab, or bring it back with its data; interrupted, it carries on."""
    lab = _lab()
    lab.create()
    done(f"the lab is up; export KUBECONFIG={lab.kubeconfig}")


@cluster.command()
@click.option("--keep-data", is_flag=True, help="Only stop it; the next `up` brings it back.")
def down(keep_data: bool) -> None:
    """Remove the lab and everything it put on this machine; caches stay."""
    lab = _lab()
    if keep_data:
        lab.stop()
    else:
        lab.delete()
    done("the lab is stopped" if keep_data else "the lab is gone")


@cluster.command()
def sync() -> None:
    """Publish the working tree and wait until Flux has applied it."""
    done(f"applied {_lab().sync()}")


@cluster.command()
def status() -> None:
    """Show what Flux has applied, and what it waits for."""
    lab = _lab()
    if lab.node.init() is None:
        out.print(f"the lab is down ({lab.state.root}); `ragctl cluster up` starts it")
        sys.exit(1)
    table, ready = Table("kustomization", "ready", "", box=None, pad_edge=False), True
    for item in flux.kustomizations(lab.state):
        fine, said = flux.summary(item)
        ready = ready and fine
        table.add_row(item["metadata"]["name"], "[green]yes[/]" if fine else "[red]no[/]", said)
    out.print(table)
    out.print(
        f"[dim]kubeconfig[/] {lab.kubeconfig}\n[dim]kubectl[/]    {lab.state.root}/bin/kubectl"
    )
    sys.exit(0 if ready else 1)
