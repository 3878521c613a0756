"""Many users at once, by locust: a master and workers as processes of the suite."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.children import free_port
from conformance.gate import ProbeError

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
START_SECONDS, END_SECONDS = 60.0, 30.0
REFUSED = "refused by the guard"


@dataclass(frozen=True, slots=True)
class Request:
    """One request: when it ended (Unix seconds), its path, how long it took, what failed.

    `error` is `REFUSED` when the guard took the question for an attack.
    """

    at: float
    path: str
    seconds: float
    error: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What users saw: their requests, how many there were at each second, how many asked the model."""

    requests: Sequence[Request]
    users: Sequence[tuple[float, int]]
    answering: Sequence[tuple[float, int]] = ()

    def held(self, users: int, seconds: float) -> tuple[float, float]:
        """The last `seconds` with all users; raises `ProbeError` unless they came that long before."""
        full = [at for at, count in self.users if count >= users]
        end = max(full, default=0.0)
        start = end - seconds
        if not full or full[0] > start + 1:
            most = max((count for _, count in self.users), default=0)
            raise ProbeError(f"{users} users were not there for {seconds:g} s: at most {most}")
        return start, end


def run(
    orders: Mapping[str, Any],
    *,
    workers: int,
    seconds: float,
    api_key: str,
    progress: Callable[[float], None] = lambda elapsed: None,
) -> Seen:
    """Users for `seconds`, spawned in the first of them; raises `ProbeError` when locust breaks."""
    with tempfile.TemporaryDirectory(prefix="users-") as name:
        folder = Path(name)
        _private(folder / "key", api_key)
        told = {**orders, "refused": REFUSED, "folder": name, "key_file": str(folder / "key")}
        _private(folder / "orders.json", json.dumps(told))
        port = free_port()
        options = ["--headless", "-u", str(orders["users"]), "-r", str(orders["spawn_rate"])]
        master = ["--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", str(port)]
        master += ["--expect-workers", str(workers), "-t", f"{seconds:g}s", *options]
        worker = ["--worker", "--master-host", "127.0.0.1", "--master-port", str(port)]
        with ExitStack() as stack:
            first = stack.enter_context(_locust(folder, "master", master))
            for number in range(workers):
                stack.enter_context(_locust(folder, f"worker-{number}", worker))
            _waited(first, folder, seconds + START_SECONDS + END_SECONDS, progress)
        return _read(folder)


def _waited(
    master: "subprocess.Popen[bytes]",
    folder: Path,
    limit: float,
    progress: Callable[[float], None],
) -> None:
    started = time.monotonic()
    while master.poll() is None:
        if time.monotonic() - started > limit:
            raise ProbeError(f"locust did not end within {limit:g} s: {_tail(folder)}")
        progress(time.monotonic() - started)
        time.sleep(0.5)
    if master.returncode not in (0, 1):  # 1: some requests failed, which is data
        raise ProbeError(f"locust exited with {master.returncode}: {_tail(folder)}")


@contextmanager
def _locust(folder: Path, name: str, options: Sequence[str]) -> "Iterator[subprocess.Popen[bytes]]":
    environment = {**os.environ, "RAG_LOAD_ORDERS": str(folder / "orders.json")}
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), *options]
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own arguments
            [*command, "--loglevel", "WARNING", "--only-summary"],
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _private(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    file.write_text(text, encoding="utf-8")


def _tail(folder: Path) -> str:
    logs = sorted(folder.glob("*.log"))
    return " | ".join(f.read_text(errors="replace")[-300:].strip() for f in logs) or "no log"


def _read(folder: Path) -> Seen:
    rows = [row for file in folder.glob("requests-*.jsonl") for row in _lines(file)]
    if not rows:
        raise ProbeError(f"no user asked anything: {_tail(folder)}")
    counted = list(_lines(folder / "users.jsonl"))
    return Seen(
        [Request(*row) for row in sorted(rows)],
        [(float(at), int(n)) for at, n, _ in counted],
        [(float(at), int(n)) for at, _, n in counted],
    )


def _lines(file: Path) -> Iterator[list[Any]]:
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)
