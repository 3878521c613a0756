"""What Git says of a checkout, whoever owns it."""

import subprocess
from pathlib import Path

from conformance.errors import GitError

_SECONDS = 60


def git(root: Path, *words: str) -> str:
    """The output of a git command in `root`; raises `GitError`."""
    command = ["git", "-c", f"safe.directory={root}", "-C", str(root), *words]
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GitError(f"{root}: git {words[0]} did not run: {error}") from error
    if done.returncode:
        raise GitError(f"{root}: git {words[0]} failed: {done.stderr.strip()}")
    return done.stdout
