"""This checkout as a Flux source: the files that Git knows or would take, under a revision."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import yaml

from conformance.cluster.node.artifacts import flux_artifact
from conformance.cluster.node.files import feed
from conformance.cluster.node.oci import Artifact
from conformance.git import git

# What makes the node is no business of Flux, which unpacks the whole artifact for each Kustomization.
_FOLDERS = ("clusters", "platform", "apps", ":(exclude)clusters/lab/node")
_CLUSTER = "clusters/lab"
_PATCH = "images.yaml"
_FLUX = "kustomize.toolkit.fluxcd.io"


def artifact(root: Path, reference: str, digests: Mapping[str, str]) -> Artifact:
    """The working tree with what its images' tags mean; raises `GitError` where Git fails."""
    files = {str(path.relative_to(root)): path.read_bytes() for path in _files(root)}
    return flux_artifact(reference, pinned(files, digests), revision=revision(root))


def pinned(files: Mapping[str, bytes], digests: Mapping[str, str]) -> dict[str, bytes]:
    """The files with a patch that has Flux put each image's digest beside its tag.

    So pods roll exactly when the image they run has changed, and never run another one than was published.
    """
    images = [
        {"name": name, "newTag": tag, "digest": digest}
        for (name, _, tag), digest in ((r.rpartition(":"), d) for r, d in sorted(digests.items()))
    ]
    patch = {
        "apiVersion": f"{_FLUX}/v1",
        "kind": "Kustomization",
        "metadata": {"name": "every"},
        "spec": {"images": images},
    }
    cluster = yaml.safe_load(files[f"{_CLUSTER}/kustomization.yaml"])
    target = {"group": _FLUX, "kind": "Kustomization"}
    cluster.setdefault("patches", []).append({"path": _PATCH, "target": target})
    made = {"kustomization.yaml": cluster, _PATCH: patch}
    return {**files, **{f"{_CLUSTER}/{n}": yaml.safe_dump(b).encode() for n, b in made.items()}}


def revision(root: Path) -> str:
    """`<branch>@sha1:<commit>`, with `-dirty.<digest>` behind it for an uncommitted tree."""
    commit = git(root, "rev-parse", "HEAD").strip()
    branch = git(root, "rev-parse", "--abbrev-ref", "HEAD").strip()
    changes = git(root, "status", "--porcelain", "--untracked-files=all", "--", *_FOLDERS)
    suffix = f"-dirty.{_digest(root)}" if changes else ""
    return f"{branch}@sha1:{commit}{suffix}"


def _digest(root: Path) -> str:
    total = hashlib.sha256()
    feed(total, root, _files(root))
    return total.hexdigest()[:12]


def _files(root: Path) -> list[Path]:
    options = ["-z", "--cached", "--others", "--exclude-standard", "--"]
    names = set(filter(None, git(root, "ls-files", *options, *_FOLDERS).split("\0")))
    return [path for name in sorted(names) if (path := root / name).is_file()]
