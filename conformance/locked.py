"""Programs that do not share our environment: each in one of its own, exactly as its lock says."""

import hashlib
import sys
from pathlib import Path

from conformance.cluster.node.commands import run
from rag_assets import derived


def environment(name: str, lock: Path) -> Path:
    """The venv that holds exactly `lock`, in the cache under `name`; raises `SuiteError`."""

    def build(folder: Path) -> None:
        uv = [sys.executable, "-m", "uv"]
        run([*uv, "venv", "-q", "--relocatable", "--clear", "--python", sys.executable, folder])
        python = folder / "bin" / "python"
        run([*uv, "pip", "sync", "-q", "--python", python, "--require-hashes", lock])

    digest = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()
    return derived(name, digest, build)
