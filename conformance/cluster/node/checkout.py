"""This checkout as a Flux source: the files that Git knows or would take, under a revision."""

import hashlib
from pathlib import Path

from conformance.cluster.node.artifacts import flux_artifact
from conformance.cluster.node.files import feed
from conformance.cluster.node.oci import Artifact
from conformance.git import git

# What makes the node is no business of Flux, which unpacks the whole artifact for each Kustomization.
_FOLDERS = ("clusters", "platform", "apps", ":(exclude)clusters/lab/node")


def artifact(root: Path, reference: str) -> Artifact:
    """The artifact of the working tree; raises `GitError` where Git cannot tell its files."""
    files = {str(path.relative_to(root)): path.read_bytes() for path in _files(root)}
    return flux_artifact(reference, files, revision=revision(root))


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
