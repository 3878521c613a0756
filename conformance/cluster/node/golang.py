"""The pinned Go toolchain, its module sets, and the modules in its cache."""

import os
import re
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from conformance.cluster.base import ClusterError
from conformance.cluster.node import wheels
from conformance.cluster.node.commands import run
from conformance.cluster.node.config import DATA
from rag_assets import cache_dir


def environment() -> dict[str, str]:
    """What the Go command runs with: the pinned toolchain, and caches of its own."""
    caches, go = cache_dir() / "go", wheels.folder(wheels.TOOLCHAIN) / "go"
    return {
        "CGO_ENABLED": "0",
        "GOCACHE": str(caches / "build"),
        "GOFLAGS": "",
        "GOMODCACHE": str(caches / "mod"),
        "GOROOT": str(go),
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "HOME": os.environ.get("HOME", "/root"),
    }


def _go() -> Path:
    return wheels.folder(wheels.TOOLCHAIN) / "go" / "bin" / "go"


def go(module_set: str, *words: str | Path) -> str:
    """What the pinned Go command says when run in a module set; raises `ClusterError`."""
    where = DATA / "modules" / module_set
    return run([_go(), *words], cwd=where, environment=environment())


def module_of(module_set: str, path: str) -> str:
    """The module of the set that `path` lies in; raises `ClusterError` when there is none."""
    text = (DATA / "modules" / module_set / "go.mod").read_text(encoding="utf-8")
    required: list[str] = re.findall(r"^(?:require )?\s*(\S+) v\S+", text, re.MULTILINE)
    found = [name for name in required if path == name or path.startswith(f"{name}/")]
    if not found:
        raise ClusterError(f"{path}: in no module that modules/{module_set}/go.mod requires")
    return max(found, key=len)


@cache
def module(module_set: str, name: str) -> Path:
    """The folder of a module of a set in the module cache, downloaded if it is not there."""
    for _ in range(2):
        if found := go(module_set, "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", name).strip():
            return Path(found)
        go(module_set, "mod", "download", name)
    raise ClusterError(f"modules/{module_set}: {name} was not downloaded")


class Prefetch:
    """Downloads the modules of further sets while the first is compiled; the network is idle then."""

    def __init__(self, module_sets: Iterable[str]) -> None:
        self._running = [
            subprocess.Popen(  # noqa: S603
                [str(_go()), "list", "-deps", "tool"],
                cwd=DATA / "modules" / name,
                env={**os.environ, **environment()},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # a build that needs the module says what is wrong
            )
            for name in module_sets
        ]

    def __enter__(self) -> None:
        """Nothing: the downloads run."""

    def __exit__(self, *error: object) -> None:
        """End what is still downloading: builds download what they lack."""
        for process in self._running:
            process.terminate()
            process.wait()
