"""`rag-onboard FILE`: a place in the store for every tenant of a list."""

import asyncio
import logging
import sys
from pathlib import Path

import click

from rag_common.files import SecretFileError
from rag_common.tenancy import InvalidTenantError, tenant_name
from rag_store.base import StoreError
from rag_store.factory import open_admin

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

    Exit code: 0 all are there, 1 the store failed, 2 usage.
    """
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    names = _names(tenants)
    try:
        asyncio.run(_provision(url, credentials, names))
    except (StoreError, SecretFileError) as error:
        raise click.ClickException(str(error)) from error


def _names(path: Path) -> list[str]:
    names = path.read_text(encoding="utf-8").split()
    if not names:
        raise click.UsageError(f"{path}: no tenant in it")
    try:
        return [tenant_name(name) for name in names]
    except InvalidTenantError as error:
        raise click.UsageError(f"{path}: {error}") from error


async def _provision(url: str, credentials: Path, names: list[str]) -> None:
    admin = open_admin(url, credentials)
    try:
        for name in names:
            await admin.provision(name)
            click.echo(f"tenant {name}: ready")
    finally:
        await admin.close()
