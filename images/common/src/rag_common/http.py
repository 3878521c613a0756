"""Clients and servers over TCP or a Unix socket: `http://host:port` or `unix:/path/to.sock`."""

import ipaddress
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import uvicorn
from fastapi import FastAPI

UNIX = "unix:"


def async_client(url: str, *, timeout: float, **options: Any) -> httpx.AsyncClient:
    """A client whose base is `url`; `timeout` in seconds, for each of connect, read, write, pool.

    On this machine it goes past `HTTP_PROXY` and `.netrc`.
    """
    if url.startswith(UNIX):
        options["transport"] = httpx.AsyncHTTPTransport(uds=url.removeprefix(UNIX))
    base = "http://localhost" if url.startswith(UNIX) else url
    options["trust_env"] = not _is_loopback(urlsplit(base).hostname or "")
    return httpx.AsyncClient(base_url=base, timeout=timeout, **options)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bind_socket(bind: str) -> socket.socket:
    """A bound socket for `host:port` or `unix:/path` (mode 0600; a stale socket file is replaced)."""
    if bind.startswith(UNIX):
        path = Path(bind.removeprefix(UNIX))
        path.unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX)
        previous = os.umask(0o177)
        try:
            sock.bind(str(path))
        finally:
            os.umask(previous)
        return sock
    host, _, port = bind.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"bind address {bind!r}: expected host:port or unix:/path")
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host.strip("[]"), int(port)))
    return sock


def serve(app: FastAPI, bind: str, *, drain_seconds: int = 20) -> None:
    """Run `app` until SIGTERM, then finish open requests for at most `drain_seconds`."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,  # longer than any client keeps an idle connection
        timeout_graceful_shutdown=drain_seconds,
    )
    uvicorn.Server(config).run(sockets=[bind_socket(bind)])
