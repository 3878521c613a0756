"""`python -m conformance.static.workflows`: GitHub's schema and zizmor over .github/workflows, offline."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from conformance import locked
from conformance.errors import SuiteError
from conformance.static.environment import ROOT

LOCK = ROOT / "requirements" / "workflows.txt"
FOLDER = ROOT / ".github" / "workflows"
_PROGRAMS = {
    "check-jsonschema": ["--builtin-schema", "vendor.github-workflows"],
    "zizmor": [
        "--offline",
        "--no-progress",
        "--no-config",
        "--color",
        "never",
        "--persona=pedantic",
    ],
}
_SECONDS = 120


def problems(folder: Path) -> list[str]:
    """What each program says against the workflows in `folder`; raises `SuiteError`."""
    files = sorted(folder.glob("*.yaml"))
    if not files or len(files) != len([*folder.iterdir()]):
        raise SuiteError(f"{folder}: a workflow is a file that ends with .yaml, and there is one")
    programs = locked.environment("workflows", LOCK) / "bin"
    said = (_run([programs / name, *options, *files]) for name, options in _PROGRAMS.items())
    return [text for text in said if text]


def _run(command: Sequence[str | Path]) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SuiteError(f"{Path(command[0]).name}: {error}") from error
    return "" if done.returncode == 0 else f"{done.stdout}{done.stderr}".strip()


def main() -> int:
    """Print what is found; 0 nothing, 1 something, 2 it could not be judged."""
    try:
        found = problems(FOLDER)
    except SuiteError as error:
        print(f"workflows: {error}", file=sys.stderr)
        return 2
    print("\n".join(found) or f"{len([*FOLDER.iterdir()])} workflows, no finding")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
