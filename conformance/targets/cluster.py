"""A platform on a Kubernetes cluster, reached by an administrator's kubeconfig."""

from pathlib import Path
from typing import Any

from conformance.errors import TargetError
from conformance.gate import ProbeError
from conformance.targets import describe
from conformance.targets.base import Description
from conformance.targets.kube.client import Cluster


class ClusterTarget:
    """Implements the part of `targets.base.Target` that needs no layer."""

    def __init__(self, description: Description, kubeconfig: Path) -> None:
        self.description = description
        self.environment = description.environment
        self.cluster = Cluster(kubeconfig)

    @classmethod
    def load(cls, file: Path) -> "ClusterTarget":
        """The target in `file`; raises `TargetError` when its cluster does not answer."""
        description = describe.read(file)
        if description.kubeconfig is None:
            raise TargetError(f"{file}: names no kubeconfig")
        target = cls(description, description.kubeconfig)
        try:
            target.cluster.raw("/version")
        except ProbeError as error:
            raise TargetError(f"{file}: {error}; is the cluster up?") from error
        return target

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise ProbeError(f"{name}: the layers are not on this cluster yet")
