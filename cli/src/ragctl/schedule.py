"""The local stand-in for the ingestion's CronJob: every tenant's source folder, at a fixed interval."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

_NICENESS = 10  # a sync has time; whoever asks a question has not
Run = Callable[[list[str]], object]


def commands(folder: Path) -> Iterator[list[str]]:
    """One `rag-ingest` a tenant whose source folder holds something."""
    for source in sorted(folder.iterdir()):
        if source.is_dir() and any(source.iterdir()):
            yield [sys.executable, "-m", "rag_ingestion", str(source), "--tenant", source.name]


def sync(folder: Path, run: Run) -> None:
    """Bring every tenant in step with its source; a failed one is in the log and tried again."""
    for command in commands(folder):
        run(command)


def _run(command: list[str]) -> None:
    subprocess.run(command, check=False)  # noqa: S603


def _stop(_: int, __: FrameType | None) -> None:
    sys.exit(0)  # subprocess ends the sync that is under way


def main() -> None:
    """`FOLDER SECONDS`: sync until SIGTERM; two syncs never overlap."""
    folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
    signal.signal(signal.SIGTERM, _stop)
    os.nice(_NICENESS)
    while True:
        started = time.monotonic()
        sync(folder, _run)
        time.sleep(max(0.0, started + seconds - time.monotonic()))


if __name__ == "__main__":
    main()
