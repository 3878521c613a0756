"""Local TCP listeners whose connections end in a pod: nothing else leads into a layer."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable

from conformance.gate import ProbeError
from conformance.targets.kube.tunnel import Tunnel

_TRIES = 3
_RESET = struct.pack("ii", 1, 0)  # linger, 0 s: the caller sees a reset instead of an empty answer


class Forward:
    """Listens on a loopback port; `dial` opens the tunnel of each connection anew.

    A pod that is replaced costs the connections to it and no others. Callers see a reset
    where no tunnel opens, and `trouble` says why.
    """

    def __init__(self, name: str, dial: Callable[[], Tunnel]) -> None:
        self.name, self.dial, self.trouble = name, dial, ""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, name=f"to {name}", daemon=True).start()

    def __enter__(self) -> "Forward":
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """No further connections."""
        self.close()

    def close(self) -> None:
        """Accept no further connections; those that are open go on."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    def _accept(self) -> None:
        while True:
            try:
                local, _ = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._serve, args=(local,), daemon=True).start()

    def _serve(self, local: socket.socket) -> None:
        local.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tunnel := self._tunnel():
            try:
                tunnel.carry(local)
            except ProbeError as error:
                self.trouble = str(error)
            finally:
                tunnel.close()
        else:
            local.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        local.close()

    def _tunnel(self) -> Tunnel | None:
        for _ in range(_TRIES):
            try:
                return self.dial()
            except ProbeError as error:
                self.trouble = str(error)
        return None
