"""File trees of Debian packages: the node's own and the one under the images."""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from shutil import which

from conformance.cluster.base import ClusterError
from conformance.cluster.node.commands import run
from conformance.cluster.node.config import load
from rag_assets import derived

_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*")
_REQUIRED = {
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
    "nsenter": "util-linux",
}


def install_tools(required: Mapping[str, str] = _REQUIRED) -> list[str]:
    """Install the Debian packages, by tool, that the machine needs and lacks; returns their names."""
    missing = [package for tool, package in required.items() if which(tool) is None]
    if missing:
        if which("apt-get") is None:
            raise ClusterError(
                f"{', '.join(missing)} missing, and this is no Debian or Ubuntu: "
                "install them, or use kind or a cluster of yours (docs/lab.md)"
            )
        environment = {"DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-qq"], environment=environment)
        options = ["-y", "-qq", "--no-install-recommends"]
        run(["apt-get", "install", *options, *missing], environment=environment)
    return missing


def _sources(suite: str) -> str:
    """The machine's own apt sources of that suite, as one-line entries."""
    line = "deb $(SITE) $(RELEASE) $(COMPONENT)"
    run_line = ["apt-get", "indextargets", "--format", line, "Created-By: Packages"]
    lines = {entry for entry in run(run_line).splitlines() if entry.split()[2].startswith(suite)}
    if not lines:
        raise ClusterError(
            f"this machine's apt has no source of Debian {suite}; the lab's node is made from it"
        )
    return "\n".join(sorted(lines)) + "\n"


def names() -> list[str]:
    """The declared trees."""
    return list(load("debian/packages.yaml")["trees"])


@cache
def tree(name: str) -> Path:
    """The tar file of a tree that `debian/packages.yaml` declares, made once."""
    data = load("debian/packages.yaml")
    packages, suite = data["trees"][name], data["suite"]
    digest = hashlib.sha256(repr((suite, packages, _LEFT_OUT)).encode()).hexdigest()

    def build(target: Path) -> None:
        install_tools()
        excluded = [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT]
        command = [
            *("mmdebstrap", "--quiet", "--variant=minbase", "--format=tar"),
            *("--aptopt=APT::Install-Recommends false", "--aptopt=Acquire::Languages none"),
            *excluded,
            '--essential-hook=mkdir -p "$1/usr/share/man/man1"',  # Java's packages link into it
            f"--include={','.join(packages)}",
            *(suite, target / "tree.tar", "-"),
        ]
        run(command, stdin=_sources(suite))

    return derived(f"lab-debian-{name}", digest, build) / "tree.tar"
