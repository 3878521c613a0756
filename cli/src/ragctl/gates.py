"""Running the conformance suite against the local platform."""

import os
import subprocess
import sys

from ragctl.ask import target
from ragctl.layout import Layout


def gates(layout: Layout, *options: str) -> int:
    """`python -m conformance` with this platform as its target; the suite's exit code."""
    target(layout)
    command = [sys.executable, "-m", "conformance", "--target", str(layout.target), *options]
    return subprocess.run(command, env=os.environ, check=False).returncode  # noqa: S603
