"""OCI images and artifacts: layers, config and manifest, without a container engine."""

import hashlib
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conformance.cluster.base import ClusterError
from conformance.cluster.node.sources import File
from rag_assets import derived

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"
IMAGE_LAYER = "application/vnd.oci.image.layer.v1.tar"
_SEARCH_PATH = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MERGED = ("/bin/", "/sbin/", "/lib/", "/lib64/")  # links in a Debian tree


@dataclass(frozen=True, slots=True)
class Blob:
    """Content with its media type, on disk or in memory."""

    media_type: str
    digest: str
    size: int
    content: Path | bytes

    @property
    def descriptor(self) -> dict[str, Any]:
        """How a manifest refers to it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True, slots=True)
class Artifact:
    """A manifest with the blobs that it names, under a reference `host/path:tag`."""

    reference: str
    config: Blob
    layers: Sequence[Blob]
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""
    subject: "Artifact | None" = None

    @property
    def blobs(self) -> Sequence[Blob]:
        """What a registry has to hold before the manifest."""
        return (self.config, *self.layers)

    @property
    def manifest(self) -> bytes:
        """The manifest, the same bytes for the same content."""
        body: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.config.descriptor,
            "layers": [layer.descriptor for layer in self.layers],
        }
        if self.annotations:
            body["annotations"] = dict(self.annotations)
        if self.artifact_type:
            body["artifactType"] = self.artifact_type
        if self.subject:
            body["subject"] = self.subject.descriptor
        return json.dumps(body, sort_keys=True).encode()

    @property
    def descriptor(self) -> dict[str, Any]:
        """How other manifests refer to this one."""
        return in_memory(self.manifest, MANIFEST).descriptor

    @property
    def digest(self) -> str:
        """What the manifest is pulled by, whatever its tag means by then."""
        return str(self.descriptor["digest"])


@dataclass(frozen=True, slots=True)
class Index:
    """A list of artifacts under a reference."""

    reference: str
    artifacts: Sequence[Artifact]
    blobs: Sequence[Blob] = ()

    @property
    def manifest(self) -> bytes:
        """The list, the same bytes for the same artifacts."""
        listed = [{**a.descriptor, "artifactType": a.artifact_type} for a in self.artifacts]
        body = {"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}
        return json.dumps(body, sort_keys=True).encode()


Manifest = Artifact | Index


def in_memory(content: bytes, media_type: str) -> Blob:
    """A blob of these bytes."""
    return Blob(media_type, f"sha256:{hashlib.sha256(content).hexdigest()}", len(content), content)


def on_disk(path: Path, media_type: str) -> Blob:
    """A blob of a cached file; its digest is computed once and kept beside it."""
    note = path.with_name(f"{path.name}.sha256")
    if not note.exists():
        with path.open("rb") as file:
            note.write_text(hashlib.file_digest(file, "sha256").hexdigest())
    return Blob(media_type, f"sha256:{note.read_text()}", path.stat().st_size, path)


def layer(files: Iterable[File]) -> Blob:
    """A layer of the files, owned by root; images with the same files share it."""
    wanted = sorted(files, key=lambda file: file.path)
    digest = hashlib.sha256("\n".join(file.identity for file in wanted).encode()).hexdigest()

    def build(target: Path) -> None:
        with tarfile.open(target / "layer.tar", "w", format=tarfile.PAX_FORMAT) as tar:
            for file in wanted:
                _add(tar, file)

    return on_disk(derived("lab-layer", digest, build) / "layer.tar", IMAGE_LAYER)


def _add(tar: tarfile.TarFile, file: File) -> None:
    entry = tarfile.TarInfo(file.path.lstrip("/"))
    if file.content is None:
        entry.type, entry.mode = (tarfile.SYMTYPE, 0o777) if file.link else (tarfile.DIRTYPE, 0o755)
        entry.linkname = file.link or ""
        tar.addfile(entry)
        return
    stat = file.content.stat()
    entry.size, entry.mode = stat.st_size, 0o755 if stat.st_mode & 0o111 else 0o644
    with file.content.open("rb") as content:
        tar.addfile(entry, content)


def image(
    reference: str,
    files: Sequence[File],
    *,
    base: Path | None = None,
    entrypoint: Sequence[str] = (),
    user: str = "0",
    path: str | None = None,
) -> Artifact:
    """An image of `files` on the file tree `base`; raises `ClusterError` where they would hurt it."""
    if base and (bad := [f.path for f in files if f.path.startswith(_MERGED)]):
        raise ClusterError(
            f"{reference}: {bad[0]} would replace a link of the tree; put it under /usr"
        )
    layers = [on_disk(base, IMAGE_LAYER)] if base else []
    if files or not base:
        layers.append(layer(files))
    searched = f"PATH={':'.join(filter(None, (path, _SEARCH_PATH)))}"
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": list(entrypoint), "User": user, "Env": [searched]},
        "rootfs": {"type": "layers", "diff_ids": [blob.digest for blob in layers]},
        "history": [
            {"created_by": "clusters/lab/node/images.yaml"} for _ in layers
        ],  # a builder counts them
    }
    return Artifact(
        reference, in_memory(json.dumps(config, sort_keys=True).encode(), IMAGE_CONFIG), layers
    )
