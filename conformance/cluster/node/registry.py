"""The lab's registry: blobs and manifests in the node's file tree, served there by `crane registry`."""

import json
import time
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx

from conformance.cluster.base import ClusterError
from conformance.cluster.node.config import network
from conformance.cluster.node.files import place
from conformance.cluster.node.oci import Blob, Manifest
from rag_common.files import write_atomic

_ANSWER_SECONDS = 30.0


class Registry:
    """Blobs are read from disk by the server; manifests it keeps in memory, so they are put again."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, artifacts: Iterable[Manifest]) -> list[str]:
        """Put the artifacts into the layout; returns the references that now mean something else."""
        index, moved = self._index(), []
        for artifact in artifacts:
            if index.get(artifact.reference, "") not in {"", artifact.manifest.decode()}:
                moved.append(artifact.reference)
            for blob in artifact.blobs:
                self._store(blob)
            index[artifact.reference] = artifact.manifest.decode()
        write_atomic(self._manifests, json.dumps(index, indent=1).encode())
        return moved

    def references(self) -> list[str]:
        """What the layout holds."""
        return sorted(self._index())

    def digests(self, references: Iterable[str]) -> dict[str, str]:
        """What the references mean; raises `ClusterError` for one that the layout does not hold."""
        index = self._index()
        if missing := sorted(set(references := list(references)) - set(index)):
            raise ClusterError(f"the lab's registry has no {missing[0]}; `make up` builds it")
        return {r: f"sha256:{sha256(index[r].encode()).hexdigest()}" for r in references}

    def publish(self, references: Iterable[str] | None = None) -> None:
        """Tell the server these manifests, by default all; raises `ClusterError` when it refuses."""
        index = self._index()
        with httpx.Client(base_url=network().registry_url, timeout=_ANSWER_SECONDS) as client:
            _await(client)
            for reference in index if references is None else references:
                name, _, tag = reference.rpartition(":")
                answer = client.put(
                    f"/v2/{name}/manifests/{tag}",
                    content=index[reference].encode(),
                    headers={"Content-Type": json.loads(index[reference])["mediaType"]},
                )
                if answer.is_error:
                    raise ClusterError(f"registry: {reference} refused: {answer.text[:200]}")

    @property
    def _manifests(self) -> Path:
        return self.root / "manifests.json"

    def _index(self) -> dict[str, Any]:
        return json.loads(self._manifests.read_text()) if self._manifests.exists() else {}

    def _store(self, blob: Blob) -> None:
        target = self.root / "blobs" / blob.digest.replace(":", "/")
        if target.exists():
            return
        if isinstance(blob.content, Path):
            place(blob.content, target)
        else:
            write_atomic(target, blob.content)


def _await(client: httpx.Client) -> None:
    deadline = time.monotonic() + _ANSWER_SECONDS
    while True:
        try:
            client.get("/v2/").raise_for_status()
            return
        except httpx.HTTPError as error:
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"the lab's registry at {client.base_url} does not answer ({error}); "
                    "see var/log/registry/current in the node's file tree"
                ) from error
            time.sleep(0.2)
