"""Running the machine's programs: quiet when they succeed, their last lines in the error when not."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from conformance.cluster.base import ClusterError

_TAIL_LINES = 12


def run(
    command: Sequence[str | Path],
    *,
    executable: Path | None = None,
    log: Path | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> str:
    """The program's standard output; all that it says is appended to `log`.

    `executable` is run under the name `command[0]`, which a multi-call program goes by.

    Raises `ClusterError` with its last lines when it fails or takes longer than `timeout` seconds.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(  # noqa: S603 - no shell; the words come from this package's data
            words,
            executable=executable,
            cwd=cwd,
            input=stdin,
            text=True,
            capture_output=True,
            env={**os.environ, **(environment or {})},
            timeout=timeout,
        )
    except FileNotFoundError:
        raise ClusterError(f"{words[0]}: no such program on this machine; install it") from None
    except subprocess.TimeoutExpired:
        raise ClusterError(f"{' '.join(words[:6])}: no end after {timeout:.0f} s") from None
    if log:
        with log.open("a", encoding="utf-8") as file:
            file.write(f"$ {' '.join(words)}\n{done.stdout}{done.stderr}")
    if done.returncode:
        tail = "\n".join((done.stderr or done.stdout).splitlines()[-_TAIL_LINES:])
        raise ClusterError(f"{' '.join(words[:6])}: exit code {done.returncode}\n{tail}")
    return done.stdout
