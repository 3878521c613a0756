"""One server process: started, waited for, killed, started again on the same data."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from conformance.cluster.base import ClusterError

_TAIL_LINES = 20


class Server:
    """A program with a log file and a way to ask whether it serves."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        serves: Callable[[], bool],
        *,
        environment: Mapping[str, str] | None = None,
        seconds: float = 180,
    ) -> None:
        self._command = [str(word) for word in command]
        self._environment = {**os.environ, **(environment or {})}
        self._log, self._serves, self._seconds = log, serves, seconds
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it serves; raises `ClusterError` with its last lines."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - no shell; our own words
                self._command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )
        end = time.monotonic() + self._seconds
        while not self._serves():
            if self._process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise ClusterError(f"{self._command[0]} does not serve:\n{self._tail()}")
            time.sleep(0.2)

    def kill(self) -> None:
        """SIGKILL to it and all that it started: what a lost machine does."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stop it where it is: connections stay, nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "not started"
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _tail(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:])
