"""Waiting until a process is ready, watched by whoever runs it."""

import socket
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from rag_common.http import UNIX
from ragctl.programs import Program


def _socket_answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(path) == 0


def _port_answers(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as sock:
        return sock.connect_ex((host, int(port))) == 0


def _http_answers(url: str) -> bool:
    path = None
    if url.startswith(UNIX):
        path, _, rest = url.removeprefix(UNIX).partition(".sock/")
        path, url = f"{path}.sock", f"http://localhost/{rest}"
    # Plain HTTP alone: without TLS there is no need to load the CA bundle at every poll.
    transport = httpx.HTTPTransport(uds=path, verify=False)
    try:
        with httpx.Client(transport=transport, timeout=2) as client:
            return client.get(url).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def is_ready(program: Program) -> bool:
    """Whether the program answers now."""
    if program.ready.startswith(("http://", UNIX)):
        return _http_answers(program.ready)
    if program.ready.startswith("tcp:"):
        return _port_answers(program.ready.removeprefix("tcp:"))
    if not program.ready:  # nothing listens: it is ready when it runs
        return True
    return Path(program.ready).exists() and _socket_answers(program.ready)


def wait(
    program: Program,
    *,
    seconds: float,
    on_wait: Callable[[float], None],
    failed: Callable[[], bool],
) -> bool:
    """Poll until ready; `on_wait` gets the elapsed seconds; False when time is up or it failed."""
    start = time.monotonic()
    while not is_ready(program):
        elapsed = time.monotonic() - start
        if elapsed > seconds or failed():
            return False
        on_wait(elapsed)
        time.sleep(0.1)
    return True
