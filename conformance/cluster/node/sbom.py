"""Bills of materials of our images, and how a registry is told which image each belongs to."""

import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from conformance import locked
from conformance.cluster.node.commands import run
from conformance.cluster.node.config import ROOT
from conformance.cluster.node.oci import Artifact, Index, Manifest, in_memory, on_disk

CYCLONEDX = "application/vnd.cyclonedx+json"
_EMPTY = "application/vnd.oci.empty.v1+json"
_LOCK = ROOT / "requirements" / "sbom.txt"
_BILL = Path(__file__).with_name("bill.py")


def write(image: Artifact, target: Path) -> None:
    """The image's bill of materials into the file `target`; raises `ClusterError`."""
    name, _, version = image.reference.rpartition(":")
    python = locked.environment("sbom", _LOCK) / "bin" / "python"
    with tempfile.TemporaryDirectory() as scratch:
        _extract(image, Path(scratch))
        words: list[str | Path] = [python, _BILL, name, version, image.digest, scratch]
        target.write_text(run(words), encoding="utf-8")


def _extract(image: Artifact, folder: Path) -> None:
    """What says which packages are installed; a later layer's says it last."""
    for layer in image.layers:
        assert isinstance(layer.content, Path)
        with tarfile.open(layer.content) as tar:
            tar.extractall(folder, members=_telling(tar), filter="data")


def _telling(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in tar:
        name = member.name.removeprefix("./")
        if name == "var/lib/dpkg/status" or name.endswith(".dist-info/METADATA"):
            yield member


def attached(image: Artifact, path: Path) -> Sequence[Manifest]:
    """The bill as an artifact of the image, and the tag under which clients look for such artifacts.

    The lab's registry has no referrers endpoint, so it is the tag that OCI's specification falls back on.
    """
    name = image.reference.rpartition(":")[0]
    tag = image.digest.replace(":", "-")
    bill = Artifact(
        f"{name}:{tag}.cdx",
        in_memory(b"{}", _EMPTY),
        [on_disk(path, CYCLONEDX)],
        artifact_type=CYCLONEDX,
        subject=image,
    )
    return [bill, Index(f"{name}:{tag}", [bill])]
