"""`ragctl cluster`: a Kubernetes cluster that Flux keeps equal to this checkout, and its gates."""

import sys
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from conformance.cluster.flux import Flux, Reconciled
from ragctl import layers
from ragctl.ask import show
from ragctl.console import done, out
from ragctl.gates import judge
from ragctl.layout import Layout
from ragctl.site import Site

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True}
_TENANT = click.option("--tenant", default="demo", show_default=True, help="Whose documents.")


@click.group()
@click.option("--kubeconfig", envvar="KUBECONFIG_FILE", type=_FILE, help="A cluster of yours.")
@click.option("--environment", envvar="RAG_ENVIRONMENT", help="Whose numbers it is judged by.")
@click.option(
    "--revision", envvar="RAG_REVISION", default="", help="What it must run: BRANCH@sha1:SHA."
)
@click.option("--kind/--node", default=None, help="What to make here, whether Docker is or not.")
@click.pass_context
def cluster(
    context: click.Context,
    kubeconfig: Path | None,
    environment: str | None,
    revision: str,
    kind: bool | None,
) -> None:
    """A cluster on this machine, synced by Flux from this checkout, or one of yours.

    On this machine it is kind where a Docker engine answers, else a node of its own (root).
    Your cluster is the one of --kubeconfig or $KUBECONFIG_FILE; it is judged, never changed.
    """
    context.obj = Site.of(Layout.from_environment(), kubeconfig, environment, kind, revision)


@cluster.command()
@click.pass_obj
def up(site: Site) -> None:
    """Make the lab, or bring it back with its data; interrupted, it carries on."""
    site.describe()
    site.cluster.create()
    done(f"the cluster is up; export KUBECONFIG={site.cluster.kubeconfig}")


@cluster.command()
@click.option("--keep-data", is_flag=True, help="Only stop it; the next `up` brings it back.")
@click.pass_obj
def down(site: Site, keep_data: bool) -> None:
    """Remove the lab and everything it put on this machine; caches stay. Yours is left alone."""
    if keep_data:
        site.lab.stop()
    else:
        site.cluster.delete()
        site.forget()
    done("the cluster is stopped" if keep_data else "the cluster is gone from here")


@cluster.command()
@click.pass_obj
def sync(site: Site) -> None:
    """Publish the working tree and wait until Flux has applied it."""
    done(f"applied {site.lab.sync()}")


@cluster.command()
@click.pass_obj
def status(site: Site) -> None:
    """Show what Flux has applied, and what it waits for; exit code 1 when it waits."""
    found = list(Flux(site.cluster.kubeconfig).everything())
    out.print(_table(found))
    out.print(f"[dim]kubeconfig[/] {site.cluster.kubeconfig}")
    sys.exit(0 if found and all(item.ready for item in found) else 1)


def _table(found: list[Reconciled]) -> Table:
    """Every Kustomization; of sources and releases only those that are not ready."""
    table = Table("", "ready", box=None, pad_edge=False)
    table.add_column("", overflow="fold")  # a reason is of use only when it is whole
    for item in found:
        if item.kind == "Kustomization" or not item.ready:
            name = item.name if item.kind == "Kustomization" else f"{item.kind} {item.name}"
            table.add_row(name, "[green]yes[/]" if item.ready else "[red]no[/]", escape(item.said))
    return table


@cluster.command(context_settings=_PASS_ON)
@click.pass_context
def gates(context: click.Context) -> None:
    """Judge the cluster; options go to the suite (--phase, --gate, --prove, --report).

    Exit code 0 GO, 1 NO-GO, 2 the suite itself could not run.
    """
    site: Site = context.obj
    site.describe()
    sys.exit(judge(site.target, *context.args))


@cluster.command(context_settings=_PASS_ON)
@click.argument("source")
@_TENANT
@click.pass_context
def ingest(context: click.Context, source: str, tenant: str) -> None:
    """Bring the tenant's index in step with SOURCE, a directory of this machine.

    Further options go to rag-ingest, which runs here and writes to the cluster's store.
    """
    site: Site = context.obj
    site.describe()
    sys.exit(layers.ingest(site.target, source, tenant, *context.args))


@cluster.command()
@click.argument("question")
@_TENANT
@click.pass_obj
def ask(site: Site, question: str, tenant: str) -> None:
    """Ask QUESTION through the cluster's gateway and print the answer with its citations."""
    site.describe()
    sys.exit(0 if show(question, layers.ask(site.target, question, tenant)) else 1)
