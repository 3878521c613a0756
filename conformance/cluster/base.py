"""What every cluster provider can do."""

from pathlib import Path
from typing import Protocol

from conformance.errors import SuiteError


class ClusterError(SuiteError):
    """A cluster cannot be made, reached or removed; the message says where and what to do next."""


class Cluster(Protocol):
    """A Kubernetes cluster: made if it is not there, reached by a kubeconfig, removed whole."""

    @property
    def kubeconfig(self) -> Path:
        """The file that reaches it as administrator."""

    def create(self) -> None:
        """Make it, or bring it back, and wait until its nodes are Ready; raises `ClusterError`."""

    def load_image(self, reference: str) -> None:
        """Make an image that was built on this machine known to its nodes."""

    def delete(self) -> None:
        """Remove it and everything it put on the machine."""
