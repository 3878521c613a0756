"""The lab's images, as `images.yaml` declares them."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from conformance.cluster.base import ClusterError
from conformance.cluster.node import debian
from conformance.cluster.node.config import load
from conformance.cluster.node.oci import Artifact, image
from conformance.cluster.node.sources import resolve


def declared() -> dict[str, Mapping[str, Any]]:
    """Every declared image by reference."""
    return {entry["image"]: entry for entry in load("images.yaml")}


def programs_of(references: Iterator[str] | list[str]) -> list[str]:
    """The programs that the images need, without repetition."""
    sources = [s for reference in references for s in declared()[reference]["files"].values()]
    names = [s.partition(":")[2] for s in sources if s.startswith("program:")]
    return list(dict.fromkeys(names))


def pack(reference: str) -> Artifact:
    """The image of that reference; raises `ClusterError` when it is not declared."""
    if reference not in declared():
        raise ClusterError(f"{reference}: not in clusters/lab/node/images.yaml; declare it there")
    entry = declared()[reference]
    base = debian.tree(entry["from"]) if entry.get("from") else None
    files = [file for place in entry["files"].items() for file in resolve(*place)]
    return image(
        reference,
        files,
        base=base,
        entrypoint=entry["entrypoint"],
        user=entry.get("user", "0"),
        path=entry.get("path"),
    )


def pack_all(note: Callable[[str], None]) -> list[Artifact]:
    """Every declared image."""
    packed = []
    for reference in declared():
        note(reference)
        packed.append(pack(reference))
    return packed
