"""A program of the platform with other settings, for planting faults."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

from conformance.children import ended
from conformance.gate import ProbeError
from conformance.targets.base import Target

STOP_SECONDS = 30


class Started(NamedTuple):
    """How a running process was started."""

    command: list[str]
    environment: dict[str, str]
    directory: Path


def started(pid: int) -> Started:
    """Command, environment and working directory of a process; raises `ProbeError`."""
    proc = Path("/proc") / str(pid)
    try:
        command = (proc / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        environment = (proc / "environ").read_bytes().split(b"\0")
        directory = (proc / "cwd").readlink()
    except OSError as error:
        raise ProbeError(f"process {pid}: {error.strerror}") from error
    if not command[0]:
        raise ProbeError(f"process {pid}: it has ended")
    pairs = (os.fsdecode(item).partition("=") for item in environment if item)
    return Started([os.fsdecode(c) for c in command], {k: v for k, _, v in pairs}, directory)


@contextmanager
def running(how: Started, **settings: str) -> Iterator[None]:
    """Inside the block the program runs again as `how` says, with `settings` in its environment."""
    process = subprocess.Popen(  # noqa: S603 - the program that ran before
        how.command,
        env=how.environment | settings,
        cwd=how.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with ended(process, STOP_SECONDS):
        yield


def reconfigured(target: Target, name: str, **settings: str) -> AbstractContextManager[None]:
    """Inside the block program `name` runs with `settings` in its environment, and is ready."""
    return target.processes.reconfigured(name, **settings)
