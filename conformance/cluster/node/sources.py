"""Where the files of an image come from: programs, wheels, modules, jars, Debian trees."""

import hashlib
import tarfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from conformance.cluster.base import ClusterError
from conformance.cluster.node import debian, golang, java, programs, wheels
from rag_assets import derived

KINDS = ("program:", "wheel:", "module:", "debian:", "java:", "link:")


@dataclass(frozen=True, slots=True)
class File:
    """A file of an image: its content, or the target of a symbolic link; with neither, a folder."""

    path: str
    content: Path | None = None
    link: str | None = None

    @property
    def identity(self) -> str:
        """What tells a changed file: cached content has the digest of its inputs in its path."""
        if self.content is None:
            return f"{self.path} -> {self.link}" if self.link else self.path
        return f"{self.path} {self.content} {self.content.stat().st_size}"


def resolve(path: str, source: str) -> list[File]:
    """The files that belong at `path`, or below it; raises `ClusterError` where there are none."""
    kind, _, rest = source.partition(":")
    if kind == "link":
        return [File(path, link=rest)]
    if kind == "program":
        return [File(path, programs.program(rest))]
    if kind == "module":
        return [File(path, _from_module(rest, source))]
    if kind == "debian":
        return [File(path, _from_debian(rest))]
    if kind == "wheel":
        return _placed(path, wheels.folder(wheels.SERVERS), rest, source)
    if kind == "java":
        server, _, rest = rest.partition("/")
        return _placed(path, java.tree(server), rest, source)
    raise ClusterError(f"{path}: {source!r} is no {', '.join(KINDS)}")


def _placed(path: str, root: Path, rest: str, source: str) -> list[File]:
    """One file, or with a slash at the end all that a folder holds, empty folders too."""
    if path.endswith("/") != source.endswith("/"):
        raise ClusterError(f"{path}: {source}: a folder and its place both end with a slash")
    if not source.endswith("/"):
        return [File(path, _existing(root / rest, source))]
    folder = root / rest
    found = [(path + str(p.relative_to(folder)), p) for p in sorted(folder.rglob("*"))]
    files = [File(name, p) for name, p in found if p.is_file()]
    empty = [File(f"{name}/") for name, p in found if p.is_dir() and not any(p.iterdir())]
    if not files:
        raise ClusterError(f"{source}: there is no file in {folder}")
    return files + empty


def _existing(path: Path, source: str) -> Path:
    if not path.is_file():
        raise ClusterError(f"{source}: there is no file {path}")
    return path


def _from_module(rest: str, source: str) -> Path:
    """`SET:MODULE/PATH`, the module being the longest prefix that the set's go.mod names."""
    module_set, _, path = rest.partition(":")
    module = golang.module_of(module_set, path)
    return _existing(golang.module(module_set, module) / path[len(module) + 1 :], source)


@cache
def _from_debian(rest: str) -> Path:
    tree, _, member = rest.partition("/")
    archive = debian.tree(tree)
    digest = hashlib.sha256(f"{archive} {member}".encode()).hexdigest()

    def extract(target: Path) -> None:
        with tarfile.open(archive) as tar:
            found = tar.extractfile(f"./{member}")
            if found is None:
                raise ClusterError(f"debian:{rest}: no regular file")
            (target / "file").write_bytes(found.read())
            (target / "file").chmod(tar.getmember(f"./{member}").mode)

    return derived("lab-debian-file", digest, extract) / "file"
