"""Programs that the suite starts: where they may listen, and that they end."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def free_url() -> str:
    """An HTTP address of this machine that nobody listens on."""
    return f"http://127.0.0.1:{free_port()}"


@contextmanager
def ended(process: subprocess.Popen[bytes], seconds: float) -> Iterator[None]:
    """After the block the process is gone: asked to end, and killed when it has not in `seconds`."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
