"""`rag-onboard FILE`: a place in the store for every tenant of a list, and none for those that left."""

import asyncio
import logging
import sys
from pathlib import Path

import click

from rag_common.files import SecretFileError
from rag_common.tenancy import InvalidTenantError, tenant_name
from rag_store.base import StoreAdmin, StoreError
from rag_store.factory import open_admin

LEFT = "-"  # before the name of a tenant that left
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("tenants", type=_FILE)
@click.option("--url", envvar="VECTOR_DB_URL", required=True, help="The store.")
@click.option(
    "--credentials",
    envvar="VECTOR_DB_CREDENTIALS_FILE",
    required=True,
    type=_FILE,
    help="Its admin login, a JSON file.",
)
def main(tenants: Path, url: str, credentials: Path) -> None:
    """Give every tenant named in TENANTS, one a line, its own place. What is there stays.

    A line `-NAME` removes the tenant with all it stored, and looks for what is left.

    Exit code: 0 all are there or gone, 1 the store failed or something is left, 2 usage.
    """
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    names, gone = _names(tenants)
    try:
        asyncio.run(_provision(url, credentials, names, gone))
    except (StoreError, SecretFileError) as error:
        raise click.ClickException(str(error)) from error


def _names(path: Path) -> tuple[list[str], list[str]]:
    """Who is to be there, and who is to be gone."""
    lines = path.read_text(encoding="utf-8").split()
    try:
        here = [tenant_name(line) for line in lines if not line.startswith(LEFT)]
        gone = [tenant_name(line.removeprefix(LEFT)) for line in lines if line.startswith(LEFT)]
    except InvalidTenantError as error:
        raise click.UsageError(f"{path}: {error}") from error
    if not here:
        raise click.UsageError(f"{path}: no tenant in it")
    if both := sorted(set(here) & set(gone)):
        raise click.UsageError(f"{path}: {', '.join(both)}: to be there and to be gone")
    return here, gone


async def _provision(url: str, credentials: Path, names: list[str], gone: list[str]) -> None:
    admin = open_admin(url, credentials)
    try:
        for name in names:
            await admin.provision(name)
            click.echo(f"tenant {name}: ready")
        for name in gone:
            await _remove(admin, name)
    finally:
        await admin.close()


async def _remove(admin: StoreAdmin, name: str) -> None:
    """Remove a tenant, saying what was there; raises `StoreError` when something is left."""
    for what in await admin.remains(name):
        click.echo(f"tenant {name}: {what}: to be removed")
    await admin.deprovision(name)
    if left := await admin.remains(name):
        raise StoreError(f"tenant {name}: still there: {', '.join(left)}")
    click.echo(f"tenant {name}: nothing is left")
