"""`rag-migrate`: move a tenant to another store while it is served."""

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import click

from rag_common.files import write_atomic
from rag_store.base import StoreError
from rag_store.factory import open_store
from rag_store.migrate import Bounds, Migration, Report

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("tenant")
@click.option("--from-url", required=True, help="Store that serves the tenant.")
@click.option("--from-credentials", required=True, type=_FILE, help="Its login, a JSON file.")
@click.option("--to-url", required=True, help="Store to move to; the tenant is provisioned there.")
@click.option("--to-credentials", required=True, type=_FILE, help="Its login, a JSON file.")
@click.option(
    "--recall",
    default=0.985,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Least recall@10 of the target against the source's exact search.",
)
@click.option(
    "--samples",
    default=200,
    show_default=True,
    type=click.IntRange(1),
    help="Queries that recall is measured with.",
)
@click.option(
    "--json",
    "report_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the report here as well.",
)
def main(
    tenant: str,
    from_url: str,
    from_credentials: Path,
    to_url: str,
    to_credentials: Path,
    recall: float,
    samples: int,
    report_file: Path | None,
) -> None:
    """Move TENANT to another store while it is served.

    When: past 5 million vectors or 2,000 queries a second move from pgvector to Qdrant; Milvus
    only past 50 million vectors and with a team to run it.

    The active generation is copied, then what changed meanwhile, until both stores are equal;
    pause ingestion for the last pass. Counts and recall@10 are compared. Queries keep going to
    the source: switch by giving the services the new store URL, only after exit code 0.

    Exit code: 0 the target may take over, 1 it may not (the report says why) or a store failed,
    2 usage.
    """
    try:
        report = asyncio.run(
            _migrate(
                (from_url, from_credentials),
                (to_url, to_credentials),
                tenant,
                Bounds(recall, samples),
            )
        )
    except StoreError as error:
        raise click.ClickException(str(error)) from error
    text = json.dumps(report.as_dict(), indent=2)
    click.echo(text)
    if report_file:
        write_atomic(report_file, text.encode())
    if not report.ok:
        raise click.ClickException("; ".join(report.problems))


async def _migrate(
    source: tuple[str, Path], target: tuple[str, Path], tenant: str, bounds: Bounds
) -> Report:
    async with AsyncExitStack() as stack:
        stores = []
        for url, credentials in (source, target):
            stores.append(open_store(url, credentials))
            stack.push_async_callback(stores[-1].close)
        bar = click.progressbar(length=1, label=tenant, file=sys.stderr)
        show = stack.enter_context(bar)

        def progress(done: int, total: int) -> None:
            show.length = total
            show.update(done - show.pos)

        first, second = stores
        return await Migration(first, second, tenant, bounds=bounds, progress=progress).run()
