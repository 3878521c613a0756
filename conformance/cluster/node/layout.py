"""Images as folders: how they go into a builder and come out of it."""

import json
from pathlib import Path

from conformance.cluster.node.files import place
from conformance.cluster.node.oci import MANIFEST, Artifact, Blob, in_memory
from rag_common.files import write_atomic

_VERSION = b'{"imageLayoutVersion": "1.0.0"}'


def write(artifact: Artifact, folder: Path) -> None:
    """The image as the only one of the OCI image layout `folder`; its layers are links."""
    manifest = in_memory(artifact.manifest, MANIFEST)
    for blob in (manifest, artifact.config, *artifact.layers):
        path = folder / "blobs" / blob.digest.replace(":", "/")
        if isinstance(blob.content, Path):
            place(blob.content, path)
        else:
            write_atomic(path, blob.content)
    write_atomic(folder / "oci-layout", _VERSION)
    index = {"schemaVersion": 2, "manifests": [manifest.descriptor]}
    write_atomic(folder / "index.json", json.dumps(index).encode())


def read(folder: Path, reference: str) -> Artifact:
    """The image that `buildah push … dir:` wrote: a manifest, and blobs named by their digests."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    blobs = [
        Blob(said["mediaType"], said["digest"], said["size"], folder / said["digest"][7:])
        for said in (manifest["config"], *manifest["layers"])
    ]
    return Artifact(reference, blobs[0], blobs[1:])
