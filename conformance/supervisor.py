"""supervisord's XML-RPC interface on its Unix socket."""

import http.client
import socket
import xmlrpc.client
from typing import Any

TIMEOUT_SECONDS = 90.0  # longer than any program's stop, which a call may wait for
ERRORS = (OSError, xmlrpc.client.Error, http.client.HTTPException)
"""What a call raises when supervisord is not there or refuses it."""


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        """A fresh connection: supervisord closes idle ones."""
        return _Connection(self._path)


def interface(path: str) -> Any:
    """The `supervisor` methods of the supervisord at socket `path`; a call raises `ERRORS`."""
    proxy = xmlrpc.client.ServerProxy("http://localhost", transport=_Transport(path))
    return proxy.supervisor
