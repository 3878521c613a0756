"""What Flux pulls: upstream's charts and install manifests, made from the pinned modules."""

import gzip
import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from conformance.cluster.node import golang, programs
from conformance.cluster.node.commands import run
from conformance.cluster.node.config import DATA, load
from conformance.cluster.node.oci import Artifact, in_memory, on_disk
from rag_assets import derived

_CHART_CONFIG = "application/vnd.cncf.helm.config.v1+json"
_CHART_LAYER = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
_FLUX_CONFIG = "application/vnd.cncf.flux.config.v1+json"
_FLUX_LAYER = "application/vnd.cncf.flux.content.v1.tar+gzip"
REVISION = "org.opencontainers.image.revision"


def make_all(note: Callable[[str], None]) -> list[Artifact]:
    """Every chart and bundle of `artifacts.yaml`."""
    data = load("artifacts.yaml")
    made = []
    for entry in data["charts"]:
        note(entry["name"])
        made.append(chart(entry))
    for entry in data["bundles"]:
        note(entry["name"])
        made.append(flux_artifact(f"{entry['name']}:{entry['version']}", bundle(entry)))
    return made


def chart(entry: Mapping[str, Any]) -> Artifact:
    """A Helm chart out of its module, packed by helm under the entry's version."""
    version = str(entry["version"])

    def pack(target: Path) -> None:
        source = golang.module(entry["set"], entry["module"]) / entry["path"]
        options = ["--version", version, "--app-version", version]
        run([programs.program("helm"), "package", source, *options, "--destination", target])
        next(target.glob("*.tgz")).rename(target / "chart.tgz")

    digest = _digest([programs.set_digest(entry["set"]), *map(str, entry.values())])
    archive = derived("lab-chart", digest, pack) / "chart.tgz"
    config = json.dumps(_chart_metadata(archive), sort_keys=True).encode()
    reference = f"{entry['name']}:{version.replace('+', '_')}"  # a tag has no plus sign
    return Artifact(reference, in_memory(config, _CHART_CONFIG), [on_disk(archive, _CHART_LAYER)])


def _digest(words: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()


def _chart_metadata(archive: Path) -> dict[str, Any]:
    with tarfile.open(archive) as tar:
        name = next(m for m in tar.getnames() if m.count("/") == 1 and m.endswith("/Chart.yaml"))
        file = tar.extractfile(name)
        assert file is not None
        metadata: dict[str, Any] = yaml.safe_load(file)
    return metadata


def bundle(entry: Mapping[str, Any]) -> dict[str, bytes]:
    """The rendered install manifests of an upstream module, as one file."""
    files = {p.name: p.read_bytes() for p in sorted((DATA / "bundles" / entry["bundle"]).iterdir())}

    def render(target: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            for name, content in files.items():
                (Path(scratch) / name).write_bytes(content)
            for name, body in entry["modules"].items():
                (Path(scratch) / name).symlink_to(golang.module(body["set"], body["module"]))
            (target / "manifests.yaml").write_text(kustomize(Path(scratch)), encoding="utf-8")

    sets = [programs.set_digest(body["set"]) for body in entry["modules"].values()]
    digest = _digest([*sets, str(entry), str(files)])
    rendered = derived(f"lab-bundle-{entry['bundle']}", digest, render) / "manifests.yaml"
    return {rendered.name: rendered.read_bytes()}


def kustomize(folder: Path) -> str:
    """The rendered YAML of a kustomization; raises `ClusterError` with kustomize's words."""
    # A module's files lie outside the folder, behind a link.
    words: list[str | Path] = [
        "kubectl",
        "kustomize",
        "--load-restrictor=LoadRestrictionsNone",
        folder,
    ]
    return run(words, executable=programs.program("kube"))


def flux_artifact(reference: str, files: Mapping[str, bytes], *, revision: str = "") -> Artifact:
    """The files as Flux's OCI artifact; the same bytes for the same files."""
    annotations = {REVISION: revision} if revision else {}
    layer = in_memory(_archive(files.items()), _FLUX_LAYER)
    return Artifact(reference, in_memory(b"{}", _FLUX_CONFIG), [layer], annotations)


def _archive(files: Iterable[tuple[str, bytes]]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, content in sorted(files):
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), compresslevel=6, mtime=0)
