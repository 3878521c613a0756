"""The models that pods read from the node's disk: a cache as `rag_assets` lays one out, made once."""

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from conformance.cluster.base import ClusterError
from conformance.cluster.node.commands import run
from conformance.cluster.node.config import ROOT, State, load
from conformance.cluster.node.files import feed, place, under
from rag_assets import derived, load_manifest
from rag_assets.fetch import folder_of

PLACE = Path("var/lib/rag-models")  # apps/*/lab/models-volume.yaml
_CACHE = "RAG_CACHE_DIR"


def store(note: Callable[[str], None]) -> Path:
    """The folder of models, made and checked once; raises `ClusterError`."""

    def build(target: Path) -> None:
        for name in load("models.yaml")["assets"]:
            note(name)
            _assets("fetch", name)
            _link(folder_of(load_manifest()[name]), target / "assets")
        note("checking")
        _assets("fetch", "--verify", *load("models.yaml")["assets"], cache=target)
        for entry in load("models.yaml")["prepare"]:
            note(entry["module"])
            environment = {**entry["environment"], _CACHE: str(target)}
            run([sys.executable, "-m", entry["module"]], environment=environment)
        _readable(target)

    return derived("lab-models", _digest(), build)


def lay(state: State, note: Callable[[str], None]) -> None:
    """Put the models into the node's file tree: links on one file system, else copies."""
    models = store(note)
    for path in under(models):
        target = state.tree / PLACE / path.relative_to(models)
        if not _same(path, target):
            place(path, target)
    _readable(state.tree / PLACE)


def _same(path: Path, target: Path) -> bool:
    """Whether `target` is the file, or a copy of it: a copy keeps its time."""
    if not target.exists():
        return False
    one, other = path.stat(), target.stat()
    return (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)


def _assets(*words: str, cache: Path | None = None) -> None:
    environment = {_CACHE: str(cache)} if cache else {}
    run([sys.executable, "-m", "rag_assets.cli", *words], environment=environment)


def _link(folder: Path, target: Path) -> None:
    if not folder.is_dir():
        raise ClusterError(f"{folder}: not there though it was fetched; is {_CACHE} changing?")
    for path in under(folder):
        place(path, target / folder.name / path.relative_to(folder))


def _readable(folder: Path) -> None:
    """Let everybody read: pods run as nobody in particular."""
    for root, _, files in os.walk(folder):
        Path(root).chmod(0o755)
        for name in files:
            path = Path(root) / name
            path.chmod(path.stat().st_mode | 0o444)


def _digest() -> str:
    data, manifest = load("models.yaml"), load_manifest()
    total = hashlib.sha256(repr([data, [manifest[n].digest for n in data["assets"]]]).encode())
    for entry in data["prepare"]:
        feed(total, ROOT, under(ROOT / "images" / entry["image"] / "src"))
    return total.hexdigest()
