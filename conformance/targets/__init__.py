"""How to reach what is judged."""

from pathlib import Path

from conformance.targets import describe
from conformance.targets.base import Target


def load(file: Path) -> Target:
    """The target that `file` describes, reachable; raises `TargetError`."""
    if describe.read(file).kubeconfig:
        from conformance.targets.cluster import ClusterTarget

        return ClusterTarget.load(file)
    from conformance.targets.local import LocalTarget

    return LocalTarget.load(file)
