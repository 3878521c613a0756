"""Where a run took place: revision, versions, machine."""

import functools
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from conformance.errors import GitError
from conformance.git import git

ROOT = Path(__file__).parents[2]
_PACKAGES = ("rag-conformance", "pytest", "numpy", "scipy", "httpx", "psycopg")


def _git(*words: str) -> str | None:
    try:
        return git(ROOT, *words).strip()
    except GitError:
        return None


@functools.cache
def revision() -> dict[str, Any]:
    """The Git revision and whether the work tree differs from it (None: not a checkout)."""
    status = _git("status", "--porcelain")
    return {
        "revision": _git("rev-parse", "HEAD"),
        "dirty": None if status is None else bool(status),
    }


def _first(path: str, key: str) -> str:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def machine() -> dict[str, Any]:
    """Processor, cores, memory and operating system."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "processor": _first("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory": _first("/proc/meminfo", "MemTotal"),
        "load_at_end": round(os.getloadavg()[0], 2),
    }


@functools.cache
def versions() -> dict[str, str]:
    """Python and the packages that measure."""
    return {"python": platform.python_version()} | {p: _version(p) for p in _PACKAGES}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
