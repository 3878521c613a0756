"""The node as a tree of processes in namespaces of its own: started, entered and ended as one."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from conformance.cluster.base import ClusterError
from conformance.cluster.node.commands import run
from conformance.cluster.node.config import DATA, State, network

_NAMESPACES = ("--mount", "--net", "--pid", "--uts", "--ipc")
_CGROUPS = Path("/sys/fs/cgroup")
_CGROUP = "rag-lab"
_LINK = "rag-lab"
_MARK = b"RAG_LAB_STATE="
_PATIENCE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Namespace:
    """The namespaces of one lab's node."""

    state: State

    def init(self) -> int | None:
        """The process id of the node's first process; None when the node is not running."""
        return running().get(self.state.tree)

    def start(self) -> None:
        """Start the node's first process and connect its network; nothing where that is done."""
        if (pid := self.init()) is None:
            _check_machine()
            pid = self._spawn()
        if not _connected(pid):
            _connect(pid)

    def _spawn(self) -> int:
        _remove_cgroups()  # kubelet looks long for the containers of those that a crash left
        for folder in _hierarchies():
            (folder / _CGROUP).mkdir()
        command = ["unshare", *_NAMESPACES, "--fork", "--kill-child", DATA / "init.sh"]
        with (self.state.root / "init.log").open("w") as log:
            subprocess.Popen(  # noqa: S603
                [*map(str, command), str(self.state.tree), network().name],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self._await_init()

    def enter(self, command: Sequence[str | Path], **options: object) -> str:
        """Run a command in the node, as `commands.run` does; raises `ClusterError`."""
        if (pid := self.init()) is None:
            raise ClusterError("the lab's node is not running; `ragctl cluster up` starts it")
        return run([*_inside(pid), *command], **options)  # type: ignore[arg-type]

    def restart_services(self) -> None:
        """Let containerd and kubelet read their configuration again; containers keep running."""
        self.enter(["sv", "-w", "20", "restart", "/etc/lab/services/containerd"])
        # kubelet ends at once until kubeadm has configured it, so nobody waits for it here.
        self.enter(["sv", "term", "/etc/lab/services/kubelet"])

    def forget(self, references: Sequence[str]) -> None:
        """Let containerd pull these images anew where it has them; running containers stay."""
        if not references:
            return
        ctr = ["ctr", "--namespace", "k8s.io", "images"]
        _await(lambda: self._answers(["ctr", "version"]), "containerd does not answer")
        held = set(self.enter([*ctr, "list", "--quiet"]).split())
        if stale := sorted(held & set(references)):
            self.enter([*ctr, "remove", *stale])

    def _answers(self, command: Sequence[str]) -> bool:
        try:
            self.enter(command)
        except ClusterError:
            return False
        return True

    def stop(self) -> None:
        """End every process of the node; its mounts, links and rules end with them."""
        if (pid := self.init()) is not None:
            os.kill(pid, signal.SIGKILL)  # the kernel ends all processes of the PID namespace
            _await(lambda: not Path(f"/proc/{pid}").exists(), "the node's processes do not end")
        if running():  # the link and the cgroups are another lab's
            return
        _remove_cgroups()
        _await(_disconnected, f"the link {_LINK} stays")

    def _await_init(self) -> int:
        def found() -> bool:
            return self.init() is not None

        try:
            _await(found, "the node's first process does not come up")
        except ClusterError as error:
            said = (self.state.root / "init.log").read_text()[-500:]
            raise ClusterError(f"{error}\n{said}") from None
        pid = self.init()
        assert pid is not None
        return pid


def running() -> dict[Path, int]:
    """Every lab's node on this machine: its file tree, and the id of its first process."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (tree := _tree_of_init(entry)):
            found[tree] = int(entry.name)
    return found


def _tree_of_init(process: Path) -> Path | None:
    try:
        if (process / "comm").read_text() != "runsvdir\n":
            return None
        for entry in (process / "environ").read_bytes().split(b"\0"):
            if entry.startswith(_MARK):
                return Path(os.fsdecode(entry.removeprefix(_MARK)))
    except OSError:  # it ended meanwhile
        pass
    return None


def _check_machine() -> None:
    """Refuse when another lab runs, or the machine already routes the node's addresses somewhere."""
    if others := running():
        raise ClusterError(
            f"another lab runs on this machine ({next(iter(others)).parent}); "
            "remove it with its own checkout's `make down`"
        )
    at = network()
    for line in run(["ip", "-4", "route", "show"]).splitlines():
        for wanted in (at.host.network, at.pods, at.services):
            if line.startswith(f"{wanted} ") and f"dev {_LINK}" not in line:
                raise ClusterError(
                    f"this machine already has a route to {wanted} ({line.strip()}); "
                    "give the lab another network in clusters/lab/node"
                )


def _inside(pid: int) -> list[str]:
    """What a command begins with to run in the node."""
    return ["nsenter", "--target", str(pid), *_NAMESPACES]


def _connected(pid: int) -> bool:
    """Whether the last part of `_connect` is done."""
    return bool(run([*_inside(pid), "ip", "route", "show", "default"]).strip())


def _connect(pid: int) -> None:
    """Put a cable between the machine and the node; its node side is `eth0`."""
    at, inside = network(), _inside(pid)
    _disconnected()  # an interrupted start made half of it
    run(["ip", "link", "add", _LINK, "type", "veth", "peer", "name", "eth0", "netns", str(pid)])
    run(["ip", "address", "add", str(at.host), "dev", _LINK])
    run(["ip", "link", "set", _LINK, "up"])
    run([*inside, "ip", "address", "add", str(at.node), "dev", "eth0"])
    run([*inside, "ip", "link", "set", "eth0", "up"])
    run([*inside, "sysctl", "-qw", "net.ipv4.ip_forward=1"])
    run([*inside, "ip", "route", "add", "default", "via", str(at.host.ip)])


def _disconnected() -> bool:
    """Remove the cable, and say whether it is gone.

    The kernel does so by itself once it has removed the network namespaces of every pod, one after the other,
    which has taken more than 40 s.
    """
    link = Path(f"/sys/class/net/{_LINK}")
    if not link.exists():
        return True
    try:
        run(["ip", "link", "delete", _LINK])
    except ClusterError:
        if link.exists():
            raise
    return not link.exists()


def _hierarchies() -> list[Path]:
    """The roots under which cgroups are made: one, or with cgroup v1 one for each controller."""
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS]
    return [folder for folder in _CGROUPS.iterdir() if (folder / "cgroup.procs").exists()]


def _remove_cgroups() -> None:
    for hierarchy in _hierarchies():
        root = hierarchy / _CGROUP
        for folder in sorted(root.rglob("*"), key=lambda p: -len(p.parts)):
            if folder.is_dir():
                folder.rmdir()
        if root.exists():
            root.rmdir()


def _await(condition: Callable[[], bool], complaint: str) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise ClusterError(f"{complaint} within {_PATIENCE_SECONDS:.0f} s")
        time.sleep(0.1)
