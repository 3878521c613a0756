"""This project's own images: targets of `images/Dockerfile`, built when what they are made of changed."""

import hashlib
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from conformance.cluster.base import ClusterError
from conformance.cluster.node import buildah, images, layout, sbom
from conformance.cluster.node.config import ROOT
from conformance.cluster.node.files import feed, under
from conformance.cluster.node.oci import Artifact, Manifest
from rag_assets import derived, is_derived

BASE = "docker.io/library/python:3.11-slim-bookworm"
_IMAGES, _LOCKS = ROOT / "images", ROOT / "requirements"
_DOCKERFILE = _IMAGES / "Dockerfile"
_COMMON = (
    *(_DOCKERFILE, _IMAGES / "Dockerfile.dockerignore", _IMAGES / "indexed.sh"),
    *(_LOCKS / "uv.txt", _LOCKS / "build.txt"),
)
_BASED = "org.opencontainers.image.base"
_BILL = "bill.cdx.json"
_REVISION = "1"  # of how this module builds


def targets() -> list[str]:
    """The images that the Dockerfile makes."""
    return re.findall(r"^FROM runtime AS (\S+)$", _text(), re.MULTILINE)


def reference(target: str) -> str:
    """Name and tag of a target's image."""
    project = tomllib.loads((_IMAGES / target / "pyproject.toml").read_text(encoding="utf-8"))
    return f"ghcr.io/rag-blueprint/{target}:{project['project']['version']}"


def pack_all(note: Callable[[str], None]) -> list[Manifest]:
    """Every image with its bill of materials, built where not cached; raises `ClusterError`."""
    made: list[Manifest] = []
    for target in targets():
        image = pack(target, note)
        made += [image, *sbom.attached(image, bill(image))]
    return made


def bill(image: Artifact) -> Path:
    """The image's bill of materials as a file."""
    total = hashlib.sha256(image.digest.encode())
    feed(
        total,
        ROOT,
        [_LOCKS / "sbom.txt", Path(sbom.__file__), Path(sbom.__file__).with_name("bill.py")],
    )

    def build(folder: Path) -> None:
        sbom.write(image, folder / _BILL)

    return derived("lab-bill", total.hexdigest(), build) / _BILL


def pack(target: str, note: Callable[[str], None]) -> Artifact:
    """A target's image, built where it is not cached; raises `ClusterError` with buildah's words."""

    def build(folder: Path) -> None:
        note(target)
        with buildah.storage() as builder:
            words = ("--file", _DOCKERFILE, "--ignorefile", f"{_DOCKERFILE}.dockerignore")
            argument = ("--build-arg", f"PYTHON_IMAGE={BASE}")
            named = ("--target", target, "--tag", reference(target))
            builder.build(*words, *argument, *named, ".", cwd=ROOT, base=_base())
            builder.export(reference(target), folder / "image")

    built = derived(_name(target), digest(target), build) / "image"
    # Its own note of the base is another one at each build.
    annotations = {f"{_BASED}.name": BASE, f"{_BASED}.digest": _base().digest}
    return replace(layout.read(built, reference(target)), annotations=annotations)


def is_cached(target: str) -> bool:
    """Whether the image is there, so that it need not be built."""
    return is_derived(_name(target), digest(target))


def digest(target: str) -> str:
    """SHA-256 over everything that the image is made of, in hex."""
    total = hashlib.sha256(f"{_REVISION} {target} {_base().config.digest}".encode())
    feed(total, ROOT, inputs(target))
    return total.hexdigest()


def inputs(target: str) -> list[Path]:
    """The files of this checkout that go into the image."""
    return [*_COMMON, _LOCKS / f"{target}.txt", *_sources(target)]


def _sources(target: str) -> Iterator[Path]:
    for package in packages(target):
        for path in under(_IMAGES / package):
            if not {"tests", "__pycache__"} & set(path.relative_to(_IMAGES).parts):
                yield path


def packages(target: str) -> list[str]:
    """The folders of `images/` whose wheels the target installs; raises `ClusterError`."""
    stage = re.search(rf"^FROM build AS {target}-build\n(.*?)^FROM ", _text(), re.M | re.S)
    if stage is None:
        raise ClusterError(f"images/Dockerfile: {target} has no stage {target}-build before it")
    return re.findall(r"/wheels/rag_(\w+)-\*", stage[1])


def _text() -> str:
    return _DOCKERFILE.read_text(encoding="utf-8")


def _name(target: str) -> str:
    return f"lab-image-{target}"


@cache
def _base() -> Artifact:
    return images.pack(BASE)
