"""`rag-ingest SOURCE --tenant T`: one sync, with a progress bar on a terminal."""

import asyncio
import logging
import sys
from pathlib import Path
from typing import NoReturn

import click
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from rag_common.files import SecretFileError, write_atomic
from rag_common.tenancy import InvalidTenantError, tenant_name
from rag_ingestion.errors import IngestionError
from rag_ingestion.report import OnProgress, Progress, Report
from rag_ingestion.settings import Settings
from rag_store.base import IndexBusyError, StoreError

BUSY = 3  # the exit code of a run that another one of the tenant is ahead of
_PLAIN_EVERY = 100


@click.command()
@click.argument("source")
@click.option("--tenant", required=True, help="Whose index is synced.")
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write the summary here."
)
@click.option("--allow-empty", is_flag=True, help="Empty the index when the source is empty.")
def main(source: str, tenant: str, json_path: Path | None, *, allow_empty: bool) -> None:
    """Make the index of a tenant equal SOURCE, a directory or s3://bucket/prefix."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("pdfminer").setLevel(logging.ERROR)
    settings = _settings(tenant)
    console = Console(stderr=True)
    try:
        report = _run(console, source, tenant, settings, allow_empty=allow_empty)
    except IndexBusyError as error:
        _fail(error, BUSY)
    except (IngestionError, StoreError, SecretFileError, OSError) as error:
        _fail(error, 1)
    if json_path:
        write_atomic(json_path, report.to_json().encode() + b"\n")
    show(console, report)


def _settings(tenant: str) -> Settings:
    try:
        tenant_name(tenant)
        settings = Settings()  # type: ignore[call-arg]  # from the environment
    except InvalidTenantError as error:
        _fail(error, 2)
    except ValidationError as error:
        wrong = "; ".join(f"{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
        _fail(wrong, 2)
    return settings


def _run(
    console: Console, source: str, tenant: str, settings: Settings, *, allow_empty: bool
) -> Report:
    from rag_ingestion.sync import ingest

    if not console.is_terminal:
        plain = _plain(console)
        return asyncio.run(
            ingest(source, tenant, settings, allow_empty=allow_empty, progress=plain)
        )
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        moving = _moving(bar, tenant)
        return asyncio.run(
            ingest(source, tenant, settings, allow_empty=allow_empty, progress=moving)
        )


def _moving(bar: Bar, tenant: str) -> OnProgress:
    task = bar.add_task(f"ingesting {tenant}", total=None)
    return lambda at: bar.update(task, completed=at.done, total=at.total)


def _plain(console: Console) -> OnProgress:
    def line(at: Progress) -> None:
        if at.done % _PLAIN_EVERY == 0 or at.done == at.total:
            console.print(f"{at.done}/{at.total} documents", highlight=False)

    return line


def show(console: Console, report: Report) -> None:
    """The summary in one line, then a table of what was set aside."""
    console.print(
        f"tenant {report.tenant}: {report.added} added, {report.changed} changed, "
        f"{report.deleted} deleted, {report.unchanged} unchanged; {report.chunks} chunks written "
        f"in {report.seconds:.1f} s ({report.documents_per_second:g} documents/s)",
        highlight=False,
        soft_wrap=True,
    )
    if not report.set_aside:
        return
    table = Table("document", "reason", "detail", title=f"{len(report.set_aside)} set aside")
    for entry in report.set_aside:
        table.add_row(entry.uri, entry.reason, entry.detail)
    console.print(table, markup=False)


def _fail(reason: object, code: int) -> NoReturn:
    click.echo(f"rag-ingest: {reason}", err=True)
    raise SystemExit(code)
