"""The cache: folders that appear whole or not at all, one builder at a time."""

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CACHE = "RAG_CACHE_DIR"
_SAFE = re.compile(r"[^A-Za-z0-9._-]+")


def cache_dir() -> Path:
    """`$RAG_CACHE_DIR`, else `$XDG_CACHE_HOME/rag-blueprint`, else `~/.cache/rag-blueprint`."""
    if explicit := os.environ.get(CACHE):
        return Path(explicit).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "rag-blueprint"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes on `<path>.lock`; the kernel frees it on a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def install(path: Path, build: Callable[[Path], None], *, keep_partial: bool = False) -> Path:
    """Let `build` fill a folder beside `path`, then rename it to `path`; call under `locked`.

    What an earlier, interrupted build left is removed, or handed on with `keep_partial`.
    """
    partial = path.with_name(f".{path.name}.partial")
    if not keep_partial:
        shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True, exist_ok=True)
    try:
        build(partial)
    except BaseException:
        if not keep_partial:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    partial.rename(path)
    return path


def derived(name: str, inputs_digest: str, build: Callable[[Path], None]) -> Path:
    """The folder that `build(folder)` fills from inputs with that digest; built once, then cached.

    Include in the digest whatever changes the result: code version, options, input files.
    """
    path = _derived_path(name, inputs_digest)
    if path.is_dir():
        return path
    with locked(path):
        return path if path.is_dir() else install(path, build)


def is_derived(name: str, inputs_digest: str) -> bool:
    """Whether `derived` would find the folder and build nothing."""
    return _derived_path(name, inputs_digest).is_dir()


def _derived_path(name: str, inputs_digest: str) -> Path:
    return cache_dir() / "derived" / f"{_SAFE.sub('-', name)}-{inputs_digest[:32]}"
