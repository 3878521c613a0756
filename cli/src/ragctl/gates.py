"""Running the conformance suite against what this command knows of."""

import os
import subprocess
import sys
from pathlib import Path

from ragctl.ask import target
from ragctl.layout import Layout


def gates(layout: Layout, *options: str) -> int:
    """The suite's exit code for the platform on this machine."""
    target(layout)
    return judge(layout.target, *options)


def judge(described: Path, *options: str) -> int:
    """`python -m conformance` for a target's description; the suite's exit code."""
    command = [sys.executable, "-m", "conformance", "--target", str(described), *options]
    return subprocess.run(command, env=os.environ, check=False).returncode  # noqa: S603
