"""How to reach what is judged."""

from pathlib import Path

from conformance.targets.base import Target


def load(file: Path) -> Target:
    """The target that `file` describes, reachable; raises `TargetError`."""
    from conformance.targets.local import LocalTarget

    return LocalTarget.load(file)
