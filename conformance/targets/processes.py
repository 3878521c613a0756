"""Control of the platform's processes through supervisord."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn

from conformance import supervisor
from conformance.children import free_url
from conformance.gate import ProbeError
from conformance.targets import describe
from conformance.targets import http as http_clients
from conformance.targets.base import Description
from conformance.targets.reconfigured import running, started
from conformance.targets.stopping import Stopping

READY_SECONDS = 120.0
STOP_SECONDS = 60.0
KEEP_ALIVE_SECONDS = 75  # longer than a proxy is likely to keep an idle connection
_UP, _DOWN = (10, 20, 30), (0, 100, 200)  # starting, running, backing off; stopped, exited, fatal


class SupervisorProcesses(Stopping):
    """Implements `targets.base.Processes`."""

    def __init__(self, description: Description) -> None:
        self.description = description

    def _rpc(self, method: str, *arguments: Any) -> Any:
        url = self.description.supervisor
        if not url:
            raise ProbeError("the target names no supervisor: its processes cannot be controlled")
        path = describe.addresses(url)
        if not isinstance(path, str):
            raise ProbeError(f"supervisor {url}: expected unix:/path")
        try:
            return getattr(supervisor.interface(path), method)(*arguments)
        except supervisor.ERRORS as error:
            raise ProbeError(f"supervisor {method}{arguments}: {error}") from error

    def names(self) -> list[str]:
        """Names of the programs."""
        return sorted(info["name"] for info in self._rpc("getAllProcessInfo"))

    def state(self, name: str) -> int:
        """Supervisor's state code of a program (20 is running)."""
        return int(self._rpc("getProcessInfo", name)["state"])

    def pid(self, name: str) -> int:
        """Process id of a running program."""
        if not (pid := int(self._rpc("getProcessInfo", name)["pid"])):
            raise ProbeError(f"{name} does not run")
        return pid

    def stop(self, name: str) -> None:
        """Stop a program and wait until it is gone."""
        if self.state(name) not in _DOWN:
            self._rpc("stopProcess", name, True)
        _wait(lambda: self.state(name) in _DOWN, STOP_SECONDS, f"{name} did not stop")

    def start(self, name: str) -> None:
        """Start a program and wait until it answers ready."""
        if self.state(name) not in _UP:
            self._rpc("startProcess", name, True)
        self.wait_ready(name)

    def wait_ready(self, name: str, seconds: float = READY_SECONDS) -> None:
        """Wait until the program answers on its endpoint, readiness included."""
        url = self.endpoint(name)
        if url:
            probe = _ready if url != self.description.gateway_url else _answers
            _wait(lambda: probe(url), seconds, f"{name} is not ready at {url}")

    def endpoint(self, name: str) -> str:
        """The program's URL in the target's description, or ''."""
        aliases = {"postgresql": "vector_db", "postgres": "vector_db", "envoy": "gateway"}
        field = f"{aliases.get(name, name)}_url"
        return str(getattr(self.description, field, ""))

    def kill(self, name: str) -> None:
        """End a running program with SIGKILL; the supervisor brings it back."""
        os.kill(self.pid(name), signal.SIGKILL)

    @contextmanager
    def reconfigured(self, name: str, **settings: str) -> Iterator[None]:
        """Inside the block the program runs with `settings` in its environment, and is ready.

        It is the same command otherwise; after it the supervised program is back and ready.
        """
        how = started(self.pid(name))
        with self.stopped(name), running(how, **settings):
            self.wait_ready(name)
            yield

    @contextmanager
    def replaced(self, name: str, application: Any) -> Iterator[None]:
        """Inside the block an ASGI `application` answers on the endpoint of program `name`."""
        url = self._must_have_endpoint(name)
        with self.stopped(name), serving(application, url):
            yield

    @contextmanager
    def fronted(self, name: str, application: Callable[[str], Any]) -> Iterator[None]:
        """Inside the block `application(url)` answers there, and the program itself at `url`."""
        url, inner = self._must_have_endpoint(name), free_url()
        how = started(self.pid(name))
        with self.stopped(name), running(how, BIND=inner.removeprefix("http://")):
            _wait(lambda: _ready(inner), READY_SECONDS, f"{name} is not ready at {inner}")
            with serving(application(inner), url):
                yield

    @contextmanager
    def stand_in(self, name: str, application: Any) -> Iterator[str]:
        """The URL inside the block of an ASGI `application`: all callers are on this machine."""
        url = free_url()
        with serving(application, url):
            yield url

    def _must_have_endpoint(self, name: str) -> str:
        if url := self.endpoint(name):
            return url
        raise ProbeError(f"{name} has no endpoint in the target's description")


def _answers(url: str) -> bool:
    return not describe.connects(url)


def _ready(url: str) -> bool:
    if not _answers(url):
        return False
    if not url.startswith(("http", "unix:")):
        return True
    try:
        with http_clients.client(url, 5) as session:
            answer = session.get("/readyz")
    except httpx.HTTPError:
        return False
    return answer.status_code < 500


def _wait(holds: Any, seconds: float, message: str) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise ProbeError(f"{message} after {seconds:g} s")
        time.sleep(0.1)


@contextmanager
def serving(application: Any, url: str) -> Iterator[None]:
    """An ASGI application answers at `url` (TCP or Unix socket) inside the block."""
    from rag_common.http import bind_socket

    address = describe.addresses(url)
    bind = f"unix:{address}" if isinstance(address, str) else f"{address[0]}:{address[1]}"
    server = uvicorn.Server(
        uvicorn.Config(
            application, log_config=None, lifespan="off", timeout_keep_alive=KEEP_ALIVE_SECONDS
        )
    )
    sockets = [bind_socket(bind)]
    thread = threading.Thread(target=server.run, kwargs={"sockets": sockets}, daemon=True)
    thread.start()
    try:
        _wait(lambda: server.started or not thread.is_alive(), 15, f"no stand-in at {url}")
        if not server.started:
            raise ProbeError(f"the stand-in at {url} did not start")
        yield
    finally:
        server.should_exit = True
        thread.join(15)
