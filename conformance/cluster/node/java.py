"""Servers in Java: jars that Maven resolves, every one held against its pinned SHA-256."""

import hashlib
import shutil
import zipfile
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

from conformance.cluster.base import ClusterError
from conformance.cluster.node import debian
from conformance.cluster.node.commands import run
from conformance.cluster.node.config import DATA, load
from rag_assets import derived

FOLDER, JARS, LOCK, LAUNCHER = "java", "java/jars.yaml", "java/jars.sha256", "java/Launcher.java"
ELASTICSEARCH = "usr/share/elasticsearch"
_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:2.8:copy-dependencies"
_REQUIRED = {"mvn": "maven"}


@cache
def tree(server: str) -> Path:
    """The files of `server` below a root of their own, resolved once; raises `ClusterError`."""
    data = (DATA / FOLDER).iterdir()
    said = b"\0".join(path.read_bytes() for path in [*sorted(data), Path(__file__)])

    def build(target: Path) -> None:
        gather(server, target)
        check(server, target)

    return derived(f"lab-java-{server}", hashlib.sha256(said).hexdigest(), build)


def gather(server: str, target: Path) -> None:
    """Put the server's jars below `target`, and around them what makes plugins of some."""
    debian.install_tools(_REQUIRED)
    for folder, entry in load(JARS)[server].items():
        _resolve(entry["artifacts"], target / folder, entry.get("excluded", ()))
        if "archive" in entry:
            _unpack(entry, target / folder)
        for other in entry.get("beside", ()):
            for jar in (target / other).glob("*.jar"):
                (target / folder / jar.name).unlink(missing_ok=True)
        _describe(target / folder)
    if server == "elasticsearch":
        home = target / ELASTICSEARCH
        for name in ("config", "plugins"):
            (home / name).mkdir()
        shutil.copy(DATA / LAUNCHER, home)


def pinned(server: str) -> dict[str, str]:
    """The SHA-256 of each of the server's jars by path."""
    lines = (DATA / LOCK).read_text(encoding="utf-8").splitlines()
    every = {path: digest for digest, path in (line.split("  ") for line in lines)}
    return {
        p: d for p, d in every.items() if any(p.startswith(f"{f}/") for f in load(JARS)[server])
    }


def digests(target: Path) -> dict[str, str]:
    """The SHA-256 of each jar below `target` by path."""
    return {
        str(jar.relative_to(target)): hashlib.sha256(jar.read_bytes()).hexdigest()
        for jar in sorted(target.rglob("*.jar"))
    }


def check(server: str, target: Path) -> None:
    """Raises `ClusterError` when a jar is not the pinned one, is missing or is one too many."""
    found, wanted = digests(target).items(), pinned(server).items()
    if wrong := sorted(path for path, _ in found ^ wanted):
        raise ClusterError(
            f"{server}: not as {LOCK} has it: {', '.join(dict.fromkeys(wrong))}; when jars.yaml was "
            "changed on purpose, `python -m conformance.cluster.node.java` writes the lock again"
        )


def _resolve(artifacts: Iterable[str], folder: Path, excluded: Iterable[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pom = folder / "pom.xml"
    pom.write_bytes(_pom(artifacts, excluded))
    options = ("-B", "-q", "--strict-checksums", f"-DoutputDirectory={folder}")
    run(["mvn", *options, "-f", pom, _PLUGIN])
    pom.unlink()


def _pom(artifacts: Iterable[str], excluded: Iterable[str]) -> bytes:
    project = Xml.Element("project", xmlns="http://maven.apache.org/POM/4.0.0")
    own = {"modelVersion": "4.0.0", "groupId": "lab", "artifactId": "jars", "version": "1"}
    _fill(project, own)
    dependencies = Xml.SubElement(project, "dependencies")
    for artifact in artifacts:
        dependency = Xml.SubElement(dependencies, "dependency")
        _fill(dependency, dict(zip(_COORDINATES, artifact.split(":"), strict=False)))
        without = Xml.SubElement(dependency, "exclusions")
        for pattern in excluded:
            group, name = pattern.split(":")
            _fill(Xml.SubElement(without, "exclusion"), {"groupId": group, "artifactId": name})
    return Xml.tostring(project)


_COORDINATES = ("groupId", "artifactId", "version", "type")


def _fill(parent: Xml.Element, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        Xml.SubElement(parent, name).text = text


def _unpack(entry: Mapping[str, Any], folder: Path) -> None:
    """The wanted jars of an archive that Maven knows."""
    _resolve([entry["archive"]], folder / "archive", ["*:*"])
    (archive,) = (folder / "archive").iterdir()
    with zipfile.ZipFile(archive) as members:
        for name in members.namelist():
            if any(fnmatch(name, pattern) for pattern in entry["members"]):
                members.extract(name, folder)
    shutil.rmtree(folder / "archive")


def _describe(folder: Path) -> None:
    """A plugin's descriptor and policy lie in its jar; the server wants them beside it."""
    prefix = f"META-INF/es-plugins/{folder.name}/"
    for jar in folder.glob(f"{folder.name}-*.jar"):
        with zipfile.ZipFile(jar) as members:
            for name in members.namelist():
                if name.startswith(prefix) and not name.endswith("/"):
                    text = members.read(name).decode()
                    lines = [x for x in text.splitlines(keepends=True) if x[:11] != "modulename="]
                    (folder / name.removeprefix(prefix)).write_text("".join(lines))


def write_lock(work: Path) -> None:
    """Resolve everything into `work` and pin what came."""
    lines: list[str] = []
    for server in load(JARS):
        gather(server, work / server)
        lines += [f"{digest}  {path}\n" for path, digest in digests(work / server).items()]
    (DATA / LOCK).write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="jars-") as work:
        write_lock(Path(work))
