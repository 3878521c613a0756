"""The command line: `ragctl up | down | status | ingest | ask | gates | demo | cluster | tenant`."""

import signal
import sys
from types import FrameType

import click
import psycopg

from conformance.cluster.base import ClusterError
from rag_assets import AssetError
from rag_common.files import SecretFileError
from rag_store.base import StoreError
from ragctl.ask import ask as ask_gateway
from ragctl.ask import show
from ragctl.cluster import cluster
from ragctl.console import done
from ragctl.demo import demo as run_demo
from ragctl.edge import EdgeConfigError
from ragctl.errors import RagctlError
from ragctl.gates import gates as run_gates
from ragctl.ingest import ingest as run_ingest
from ragctl.layout import Layout
from ragctl.lifecycle import down as stop
from ragctl.lifecycle import up as start
from ragctl.status import status as show_status
from ragctl.tenant import tenant
from ragctl.tenants import tenants

_TENANT = click.option(
    "--tenant",
    default="demo",
    show_default=True,
    type=click.Choice([tenant.name for tenant in tenants()]),
    help="Whose documents.",
)
_EXPECTED = (
    AssetError,
    ClusterError,
    EdgeConfigError,
    StoreError,
    SecretFileError,
    psycopg.Error,
    OSError,
)
_PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True}


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class _Commands(click.Group):
    """Commands whose expected failures are one line, not a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; what is known to go wrong becomes a `RagctlError`."""
        try:
            return super().invoke(ctx)
        except _EXPECTED as error:
            raise RagctlError(f"{type(error).__name__}: {error}") from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ragctl")
def main() -> None:
    """A production RAG platform on this machine, and the gates that judge it."""
    for number in (signal.SIGTERM, signal.SIGHUP):  # whatever runs is stopped in order
        signal.signal(number, _interrupt)


main.add_command(cluster)
main.add_command(tenant)


@main.command()
def up() -> None:
    """Start the five layers, the guard and the gateway."""
    start(Layout.from_environment())
    done("up; `ragctl status` says where")


@main.command()
def down() -> None:
    """Stop everything; documents, keys and logs stay for the next `up`."""
    stop(Layout.from_environment())
    done("down")


@main.command()
def status() -> None:
    """Show what runs, and where."""
    sys.exit(0 if show_status(Layout.from_environment()) else 1)


@main.command(context_settings=_PASS_ON)
@click.argument("source")
@_TENANT
@click.pass_context
def ingest(context: click.Context, source: str, tenant: str) -> None:
    """Bring the tenant's index in step with SOURCE, a directory or s3://bucket/prefix.

    Further options go to rag-ingest.
    """
    sys.exit(run_ingest(Layout.from_environment(), source, tenant, *context.args))


@main.command()
@click.argument("question")
@_TENANT
def ask(question: str, tenant: str) -> None:
    """Ask QUESTION through the gateway and print the answer with its citations."""
    sys.exit(0 if show(question, ask_gateway(Layout.from_environment(), question, tenant)) else 1)


@main.command(context_settings=_PASS_ON)
@click.pass_context
def gates(context: click.Context) -> None:
    """Judge the platform; options go to the suite (--profile, --gate, --phase, --prove, --report).

    Exit code 0 GO, 1 NO-GO, 2 the suite itself could not run.
    """
    sys.exit(run_gates(Layout.from_environment(), *context.args))


@main.command()
@click.option("--report", default="report", show_default=True, help="Folder of the gates' report.")
def demo(report: str) -> None:
    """Ingest sample documents, ask three questions, run the gates, write the report."""
    sys.exit(run_demo(Layout.from_environment(), report))
