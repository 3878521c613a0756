"""Tries to get out of the container that it runs in; prints what became of each attempt."""

import ctypes
import errno
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_NEW_USER, _NEW_NAMESPACE, _DETACH = 0x10000000, 0x00020000, 2
_BPF = {"x86_64": 321, "aarch64": 280}  # the number of the system call
RUNTIMES = (
    "/run/containerd/containerd.sock",
    "/var/run/docker.sock",
    "/run/crio/crio.sock",
    "/run/k3s/containerd/containerd.sock",
)
HOST = ("kubelet", "containerd", "dockerd", "crio", "etcd", "kube-apiserver")


def _call(name: str, *arguments: object) -> None:
    if getattr(_LIBC, name)(*arguments) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _in_child(act: Callable[[], object]) -> None:
    """Act in a process of its own, which ends: no namespace or identity of ours is changed."""
    read, write = os.pipe()
    if os.fork() == 0:
        try:
            act()
            os.write(write, b"ok")
        except BaseException as error:
            os.write(write, str(error).encode()[:200])
        os._exit(0)
    os.close(write)
    told = os.read(read, 200).decode(errors="replace")
    os.close(read)
    os.wait()
    if told != "ok":
        raise PermissionError(told or "the process was killed")


def _status(name: str) -> str:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(line.split(":")[1].strip() for line in lines if line.startswith(f"{name}:"))


def _hold(found: bool, told: str) -> None:
    """Nothing when it was found, else the reason as an error."""
    if not found:
        raise PermissionError(told)


def _open_for_writing(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY))


def _load() -> None:
    try:
        _call("syscall", _BPF[os.uname().machine], 0, 0, 0)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EFAULT):  # it was let through to be wrong
            raise


def _write_root() -> None:
    for folder in ("/", "/etc", "/usr/bin"):
        try:
            file = Path(folder, ".rag-conformance")
            file.write_text("", encoding="ascii")
        except OSError:
            continue
        file.unlink()
        return
    raise PermissionError("read-only")


def _host_process() -> None:
    names = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            names.append((folder / "comm").read_text(encoding="utf-8").strip())
        except OSError:
            continue
    _hold(bool(set(names) & set(HOST)), f"{len(names)} processes, none of the node's")


def _runtime() -> None:
    _hold(any(Path(path).exists() for path in RUNTIMES), "no socket of a runtime")


def _device() -> None:
    for name in ("/dev/sda", "/dev/vda", "/dev/nvme0n1", "/dev/mem", "/dev/kmsg"):
        try:
            with open(name, "rb"):  # noqa: PTH123
                return
        except OSError:
            continue
    raise PermissionError("no device of the node")


def _raw() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()


def _sibling() -> None:
    """Files of another container of the pod by way of its processes."""
    own = os.stat("/proc/self/root/")  # noqa: PTH116
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            other = os.stat(folder / "root/")  # noqa: PTH116
        except OSError:
            continue
        if (other.st_dev, other.st_ino) != (own.st_dev, own.st_ino):
            return
    raise PermissionError("every process has this root")


def _mount() -> None:
    """On a folder that is everywhere and empty; undone at once."""
    _call("mount", b"none", b"/mnt", b"tmpfs", 0, None)
    _call("umount2", b"/mnt", _DETACH)


def _cgroup() -> None:
    folder = Path("/sys/fs/cgroup/rag-conformance")
    folder.mkdir()
    folder.rmdir()


WAYS: dict[str, Callable[[], None]] = {
    "be root": lambda: _hold(os.geteuid() == 0, f"user {os.geteuid()}"),
    "become root": lambda: _in_child(lambda: os.setuid(0)),
    "have a capability": lambda: _hold(int(_status("CapEff"), 16) != 0, "none"),
    "gain a capability by a program": lambda: _hold(
        int(_status("CapBnd"), 16) != 0 and _status("NoNewPrivs") != "1", "none to gain"
    ),
    "make any system call": lambda: _hold(_status("Seccomp") != "2", "filtered"),
    "write the root file system": _write_root,
    "mount a file system": lambda: _in_child(_mount),
    "make a user namespace": lambda: _in_child(lambda: _call("unshare", _NEW_USER)),
    "make a mount namespace": lambda: _in_child(lambda: _call("unshare", _NEW_NAMESPACE)),
    "change the root folder": lambda: _in_child(lambda: os.chroot("/tmp")),  # noqa: S108
    "load a program into the kernel": lambda: _in_child(_load),
    "send raw packets": _raw,
    "see a process of the node": _host_process,
    "reach the container runtime": _runtime,
    "read another container's files": _sibling,
    "open a device of the node": _device,
    "set the kernel's core pattern": lambda: _open_for_writing("/proc/sys/kernel/core_pattern"),
    "press the kernel's keys": lambda: _open_for_writing("/proc/sysrq-trigger"),
    "make a cgroup": _cgroup,
    "take the sidecar's certificate": lambda: _hold(
        any(
            Path(path).exists()
            for path in (
                "/var/run/secrets/workload-spiffe-uds/socket",
                "/var/run/secrets/istio-dns",
                "/etc/istio/proxy",
            )
        ),
        "its folders are not mounted here",
    ),
}


def escape() -> dict[str, tuple[bool, str]]:
    """By way whether it worked, and what was said."""
    found = {}
    for name, act in WAYS.items():
        try:
            act()
            found[name] = (True, "it worked")
        except (OSError, ValueError) as error:
            found[name] = (False, str(error)[:200])
    return found


if __name__ == "__main__":
    print(json.dumps(escape()))
