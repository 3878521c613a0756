"""Free ports for the local platform, kept from one `up` to the next while they stay free."""

import json
import socket
from collections.abc import Iterable
from pathlib import Path

from rag_common.files import write_atomic

HOST = "127.0.0.1"


def is_free(port: int) -> bool:
    """Whether the loopback port can be bound now."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((HOST, port))
        except OSError:
            return False
        return True


def _any_free(taken: set[int]) -> int:
    while True:
        with socket.socket() as sock:
            sock.bind((HOST, 0))
            port = int(sock.getsockname()[1])
        if port not in taken:
            return port


def pick(names: Iterable[str], file: Path) -> dict[str, int]:
    """A port for each name: the one in `file` if it is still free, else another."""
    try:
        known = {str(k): int(v) for k, v in json.loads(file.read_text()).items()}
    except (OSError, ValueError, AttributeError):
        known = {}
    ports: dict[str, int] = {}
    for name in names:
        port = known.get(name)
        usable = port is not None and port not in ports.values() and is_free(port)
        ports[name] = port if usable and port else _any_free(set(ports.values()))
    write_atomic(file, json.dumps(ports).encode())
    return ports
