"""A TCP connection to a port of a pod, carried by the API server over a WebSocket."""

import select
import socket
import ssl
from typing import Any

from kubernetes import client
from kubernetes.stream.ws_client import create_websocket
from websocket import ABNF, WebSocketException

from conformance.targets.kube.errors import ApiError, api_error

_PROTOCOL = "v4.channel.k8s.io"  # channel 0 is the data, channel 1 the error, both of the one port
_DATA, _ERROR = 0, 1
_CONNECT_SECONDS = 10.0
_BUFFER = 1 << 18  # bytes that may wait for the API server before the caller is read again


class Tunnel:
    """An open connection to a pod's port; `carry` moves bytes until one end closes."""

    def __init__(self, configuration: Any, namespace: str, pod: str, port: int) -> None:
        self.where = f"{namespace}/{pod}:{port}"
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/portforward?ports={port}"
        headers = {"sec-websocket-protocol": _PROTOCOL}
        try:
            with client.ApiClient(configuration) as api:
                api.update_params_for_auth(headers, [], ["BearerToken"], path, "GET", None)
            url = configuration.host.replace("http", "ws", 1) + path
            made = create_websocket(configuration, url, headers)  # type: ignore[no-untyped-call]
            self._socket: Any = made
            self._socket.settimeout(_CONNECT_SECONDS)
            for _ in (_DATA, _ERROR):  # each channel begins with the port's number
                self._socket.recv_data_frame()
            self._socket.settimeout(None)
        except Exception as error:  # the client raises whatever its transports do
            raise api_error(f"port-forward to {self.where}", error) from error

    def close(self) -> None:
        """Close it; the pod's side is told."""
        self._socket.shutdown()

    def carry(self, local: socket.socket) -> None:
        """Move bytes both ways until an end closes. Raises `ApiError`."""
        try:
            self._carry(local)
        except (OSError, WebSocketException) as error:
            raise api_error(f"port-forward to {self.where}", error) from error

    def _carry(self, local: socket.socket) -> None:
        remote, waiting = self._socket.sock, b""
        if _decrypted(remote) and not self._received(local):
            return
        while True:
            readers = [remote, local] if len(waiting) < _BUFFER else [remote]
            readable, writable, _ = select.select(readers, [remote] if waiting else [], [])
            if remote in readable and not self._received(local):
                return
            if local in readable:
                if not (data := local.recv(1 << 16)):
                    _send_all(remote, waiting)
                    return
                waiting += ABNF.create_frame(bytes([_DATA]) + data, ABNF.OPCODE_BINARY).format()
            if remote in writable:
                waiting = waiting[remote.send(waiting) :]

    def _received(self, local: socket.socket) -> bool:
        """Pass on what has come from the pod; False when it has closed."""
        while True:
            opcode, frame = self._socket.recv_data_frame(True)
            if opcode == ABNF.OPCODE_CLOSE:
                return False
            if opcode == ABNF.OPCODE_BINARY and frame.data[0] == _ERROR:
                raise ApiError(f"port-forward to {self.where}", 0, frame.data[1:].decode())
            if opcode == ABNF.OPCODE_BINARY:
                local.sendall(frame.data[1:])
            if not _decrypted(self._socket.sock):
                return True


def _decrypted(remote: socket.socket) -> bool:
    """Whether there is something to read that `select` does not tell of."""
    return isinstance(remote, ssl.SSLSocket) and remote.pending() > 0


def _send_all(remote: socket.socket, data: bytes) -> None:
    if data:
        remote.sendall(data)
