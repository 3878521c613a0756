"""The upstream programs, built from pinned Go modules and cached by the digest of what makes them."""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from conformance.cluster.base import ClusterError
from conformance.cluster.node import wheels
from conformance.cluster.node.config import DATA, load
from conformance.cluster.node.files import feed, under
from conformance.cluster.node.golang import Prefetch, go
from rag_assets import derived, is_derived

CHECKS = frozenset({"gitleaks"})  # what a cluster has no use for: built when it is asked for
_FLAGS = ("-trimpath", "-buildvcs=false", "-mod=readonly")


@dataclass(frozen=True, slots=True)
class Program:
    """A program: its module set, its package, and how it is compiled and linked."""

    name: str
    module_set: str
    package: str
    tags: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def options(self) -> list[str]:
        """The build options that are this program's own."""
        linked = [f"-X {name}={value}" for name, value in self.variables.items()]
        tags = ["-tags", ",".join(self.tags)] if self.tags else []
        return [*tags, "-ldflags", " ".join(["-s -w", *linked])]

    @property
    def digest(self) -> str:
        """SHA-256 over the module set, the toolchain and the options, in hex."""
        said = repr([self.package, *_FLAGS, *self.options]).encode()
        return hashlib.sha256(set_digest(self.module_set).encode() + said).hexdigest()


@cache
def set_digest(module_set: str) -> str:
    """SHA-256 over a set's files and the toolchain, in hex."""
    total = hashlib.sha256((DATA / wheels.TOOLCHAIN).read_bytes())
    folder = DATA / "modules" / module_set
    feed(total, folder, under(folder))
    return total.hexdigest()


@cache
def programs() -> dict[str, Program]:
    """Every declared program by name."""
    return {
        name: Program(
            name,
            module_set,
            body["package"],
            tuple(body.get("tags", ())),
            body.get("variables", {}),
        )
        for module_set, members in load("programs.yaml").items()
        for name, body in members.items()
    }


def program(name: str) -> Path:
    """The executable `name`, built if it is not cached; raises `ClusterError` with the compiler's words."""
    if name not in programs():
        raise ClusterError(f"programs.yaml has no program {name!r}")
    declared = programs()[name]

    def build(target: Path) -> None:
        words: list[str | Path] = [
            *_FLAGS,
            *declared.options,
            "-o",
            target / name,
            declared.package,
        ]
        go(declared.module_set, "build", *words)

    return derived(f"lab-{name}", declared.digest, build) / name


def build(names: Iterable[str], note: Callable[[str], None]) -> None:
    """Build the programs that are not cached: set by set, compiled together, linked side by side."""
    missing = [programs()[name] for name in names if not is_cached(name)]
    module_sets = list(dict.fromkeys(p.module_set for p in missing))
    with Prefetch(module_sets[1:]):
        for module_set in module_sets:
            members = [p for p in missing if p.module_set == module_set]
            note(f"{module_set}: {', '.join(p.name for p in members)}")
            _compile(members)
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                list(pool.map(program, [p.name for p in members]))


def is_cached(name: str) -> bool:
    """Whether the program is there, so that it need not be built."""
    return is_derived(f"lab-{name}", programs()[name].digest)


def _compile(members: list[Program]) -> None:
    """Compile all packages into the build cache: what members share is compiled once."""
    if len(members) < 2:
        return
    tags = sorted({tag for member in members for tag in member.tags})
    options = ["-tags", ",".join(tags)] if tags else []
    packages = [member.package for member in members]
    # Unlike `go build` of several programs this links none of them.
    export = ["-export", "-deps", "-f", "{{if .Export}}{{end}}"]
    go(members[0].module_set, "list", *_FLAGS, *options, *export, *packages)
