"""supervisord: its configuration, its XML-RPC interface, and the end of everything it started."""

import configparser
import io
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Any

import psutil

from conformance import supervisor
from rag_common.files import write_atomic
from ragctl.errors import RagctlError
from ragctl.layout import Layout
from ragctl.programs import Program

MARK = "RAG_PLATFORM_STATE"  # every process of a platform carries its state folder in this variable
_RUNNING = "RUNNING"


def _escape(value: str) -> str:
    return value.replace("%", "%%")


def _assignment(name: str, value: str) -> str:
    if '"' in value:  # supervisord's parser knows no escape for it
        raise RagctlError(
            f"{name}: a double quote cannot stand in a process's environment: {value}"
        )
    return f'{name}="{_escape(value)}"'


def _section(program: Program, layout: Layout) -> dict[str, str]:
    environment = {MARK: str(layout.root), "PYTHONUNBUFFERED": "1", **program.environment}
    return {
        "command": _escape(shlex.join(program.command)),
        "environment": ",".join(_assignment(*item) for item in environment.items()),
        "directory": str(layout.root),
        "autostart": "false",
        "autorestart": "true",
        "startsecs": "1",
        "startretries": "5",
        "stopsignal": program.stop_signal,
        "stopwaitsecs": "25",
        "stopasgroup": "false",
        "killasgroup": "true",
        "stdout_logfile": str(layout.log / f"{program.name}.log"),
        "stdout_logfile_maxbytes": "20MB",
        "stdout_logfile_backups": "2",
        "redirect_stderr": "true",
    }


def write_config(programs: Iterable[Program], layout: Layout) -> None:
    """supervisord.conf for the programs."""
    config = configparser.RawConfigParser()
    config["unix_http_server"] = {"file": str(layout.supervisor_socket), "chmod": "0700"}
    config["supervisord"] = {
        "logfile": str(layout.log / "supervisord.log"),
        "pidfile": str(layout.run / "supervisord.pid"),
        "childlogdir": str(layout.log),
        "umask": "077",
    }
    factory = "supervisor.rpcinterface:make_main_rpcinterface"
    config["rpcinterface:supervisor"] = {"supervisor.rpcinterface_factory": factory}
    for program in programs:
        config[f"program:{program.name}"] = _section(program, layout)
    text = io.StringIO()
    config.write(text)
    write_atomic(layout.supervisor_config, text.getvalue().encode(), mode=0o600)


class Supervisor:
    """The XML-RPC client of the platform's supervisord."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    @property
    def _rpc(self) -> Any:
        return supervisor.interface(str(self.layout.supervisor_socket))

    def is_running(self) -> bool:
        """Whether supervisord answers."""
        try:
            return bool(self._rpc.getState()["statename"] == _RUNNING)
        except supervisor.ERRORS:
            return False

    def launch(self) -> None:
        """Start supervisord in the background and wait until it answers."""
        command = [sys.executable, "-m", "supervisor.supervisord", "-n"]
        output = self.layout.log / "supervisord.out"
        with output.open("w") as file:
            daemon = subprocess.Popen(  # noqa: S603
                [*command, "-c", str(self.layout.supervisor_config)],
                env={**os.environ, MARK: str(self.layout.root)},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        deadline = time.monotonic() + 15
        while not self.is_running():
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise RagctlError(f"supervisord did not start: {output.read_text()[-500:]}")
            time.sleep(0.05)

    def start(self, name: str) -> None:
        """Start one program, without waiting for it."""
        self._rpc.startProcess(name, False)

    def states(self) -> dict[str, tuple[str, str]]:
        """Program -> (state, description)."""
        return {
            p["name"]: (p["statename"], p["description"]) for p in self._rpc.getAllProcessInfo()
        }

    def shutdown(self) -> None:
        """Stop every program, then supervisord, then whatever of this platform is still there."""
        if self.is_running():
            self._rpc.shutdown()
        end(self._survivors(patience=30))

    def _survivors(self, patience: float) -> list[psutil.Process]:
        deadline = time.monotonic() + patience
        while (left := processes(self.layout)) and time.monotonic() < deadline:
            if not any(_is_supervisor(p) for p in left):
                break
            time.sleep(0.1)
        return left


def _is_supervisor(process: psutil.Process) -> bool:
    try:
        return "supervisor.supervisord" in process.cmdline()
    except psutil.Error:
        return False


def processes(layout: Layout) -> list[psutil.Process]:
    """Every process that belongs to the platform of `layout`, this one excepted."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == str(layout.root):
                found.append(process)
        except psutil.Error:
            continue
    return found


def end(processes: list[psutil.Process], patience: float = 5) -> None:
    """Terminate the processes, and kill those that are still there after `patience` seconds."""
    for process in processes:
        _signal(process.terminate)
    _, alive = psutil.wait_procs(processes, timeout=patience)
    for process in alive:
        _signal(process.kill)
    psutil.wait_procs(alive, timeout=patience)


def _signal(send: Any) -> None:
    try:
        send()
    except psutil.NoSuchProcess:
        return
