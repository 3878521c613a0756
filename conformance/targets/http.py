"""HTTP clients over TCP or a Unix socket, and the credentials they carry."""

import uuid
from collections.abc import Callable, Generator
from typing import Any

import httpx

UNIX = "unix:"


class HeaderAuth(httpx.Auth):
    """Sets a header anew for every request, so that short-lived tokens and rotation work."""

    def __init__(self, header: str, value: Callable[[], str]) -> None:
        self.header, self.value = header, value

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the header unless the caller set one."""
        request.headers.setdefault(self.header, self.value())
        yield request


def _limits() -> httpx.Limits:
    return httpx.Limits(max_connections=200, max_keepalive_connections=50)


def client(url: str, timeout: float, auth: httpx.Auth | None = None) -> httpx.Client:
    """A client whose base is `url`; `timeout` in seconds."""
    options: dict[str, Any] = {"timeout": timeout, "auth": auth, "trust_env": False}
    if url.startswith(UNIX):
        transport = httpx.HTTPTransport(uds=url.removeprefix(UNIX), limits=_limits())
        return httpx.Client(base_url="http://localhost", transport=transport, **options)
    return httpx.Client(base_url=url, limits=_limits(), **options)


def async_client(url: str, timeout: float, auth: httpx.Auth | None = None) -> httpx.AsyncClient:
    """The asynchronous one."""
    options: dict[str, Any] = {"timeout": timeout, "auth": auth, "trust_env": False}
    if url.startswith(UNIX):
        transport = httpx.AsyncHTTPTransport(uds=url.removeprefix(UNIX), limits=_limits())
        return httpx.AsyncClient(base_url="http://localhost", transport=transport, **options)
    return httpx.AsyncClient(base_url=url, limits=_limits(), **options)


def new_request_id() -> str:
    """A fresh request id."""
    return str(uuid.uuid4())
