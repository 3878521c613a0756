"""Which cluster a command means, and the file that tells the conformance suite of it."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from conformance.cluster.base import Cluster, ClusterError
from conformance.cluster.choose import choose
from conformance.cluster.node.provider import NodeCluster
from rag_common.files import write_atomic
from ragctl.layout import Layout

LAB = "lab"
YOURS = "production"  # the strictest numbers, unless you say otherwise


@dataclass(frozen=True, slots=True)
class Site:
    """A cluster, the environment whose numbers it is judged by, and the folder of its description."""

    cluster: Cluster
    environment: str
    folder: Path
    revision: str = ""  # of Git, that it must run: `<branch>@sha1:<commit>`

    @classmethod
    def of(
        cls,
        layout: Layout,
        kubeconfig: Path | None = None,
        environment: str | None = None,
        kind: bool | None = None,
        revision: str = "",
    ) -> "Site":
        """Your cluster where its kubeconfig is given, else this machine's lab."""
        folder = layout.root / ("cluster" if kubeconfig else LAB)
        default = YOURS if kubeconfig else LAB
        made = choose(folder, kubeconfig, kind=kind)
        return cls(made, environment or default, folder, revision)

    @property
    def target(self) -> Path:
        """What the conformance suite reads."""
        return self.folder / "target.json"

    @property
    def lab(self) -> NodeCluster:
        """The cluster as the lab's node; raises `ClusterError` for any other, which is not ours to keep."""
        if not isinstance(self.cluster, NodeCluster):
            raise ClusterError(
                f"{self.cluster.kubeconfig}: only the lab's node can do this; another cluster has "
                "a Flux of its own, which follows what you commit and push"
            )
        return self.cluster

    def describe(self) -> None:
        """Write the target; paths are relative to it where they can be."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        kubeconfig = self.cluster.kubeconfig.resolve()
        described = {
            "environment": self.environment,
            "kubeconfig": os.path.relpath(kubeconfig, self.folder)
            if kubeconfig.is_relative_to(self.folder)
            else str(kubeconfig),
        }
        if self.revision:
            described["revision"] = self.revision
        write_atomic(self.target, json.dumps(described, indent=1).encode())

    def forget(self) -> None:
        """Remove the target."""
        self.target.unlink(missing_ok=True)
