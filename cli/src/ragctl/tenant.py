"""`ragctl tenant`: who may use a cluster, as a change of its manifests that is reviewed as a diff."""

from collections.abc import Callable
from pathlib import Path

import click

from ragctl import onboarding
from ragctl.console import done
from ragctl.edge import RateLimit

ROOT = Path(__file__).parents[3]
_OVERLAY = click.option(
    "--overlay", default="cloud", show_default=True, help="Of the layers: lab or cloud."
)
_DRY = click.option("--dry-run", is_flag=True, help="Show the diff, write nothing.")
_ROOT = click.option(
    "--root",
    default=ROOT,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The checkout.",
)


@click.group()
def tenant() -> None:
    """Tenants of a cluster, in its manifests; commit what these write, and Flux does the rest."""


@tenant.command()
@click.argument("name")
@_OVERLAY
@click.option("--requests-per-minute", type=click.IntRange(1), default=600, show_default=True)
@click.option("--burst", type=click.IntRange(1), default=60, show_default=True)
@_DRY
@_ROOT
def add(
    name: str, overlay: str, requests_per_minute: int, burst: int, dry_run: bool, root: Path
) -> None:
    """Give NAME a place: store, schedule, rate, and a namespace for its clients.

    Its documents go under s3://BUCKET/NAME/. Its API key goes into the vault, never into Git:
    docs/runbooks/tenant-onboarding.md.
    """
    limit = RateLimit(requests_per_minute, burst)
    _change(root, overlay, dry_run, lambda plan: onboarding.add(plan, name, limit))


@tenant.command()
@click.argument("name")
@_OVERLAY
@click.option("--done", "over", is_flag=True, help="It is removed, and the log of that is kept.")
@_DRY
@_ROOT
def remove(name: str, overlay: str, over: bool, dry_run: bool, root: Path) -> None:
    """Take NAME out: no list has it, and the store removes what it has, provably.

    What else there is to remove: docs/runbooks/tenant-off-boarding.md.
    """
    plan = onboarding.forget if over else onboarding.remove
    _change(root, overlay, dry_run, lambda made: plan(made, name))


def _change(
    root: Path, overlay: str, dry_run: bool, plan: Callable[[onboarding.Overlay], None]
) -> None:
    made = onboarding.Overlay.at(root, overlay)
    plan(made)
    click.echo("".join(made.diff()), nl=False)
    if not dry_run:
        made.write()
        done(f"{len(made.changes)} files; review and commit them")
