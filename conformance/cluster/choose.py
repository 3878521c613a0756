"""Which provider a machine gets."""

from pathlib import Path

from conformance.cluster.base import Cluster
from conformance.cluster.existing import ExistingCluster
from conformance.cluster.kind import KindCluster, docker_answers
from conformance.cluster.node.provider import NodeCluster

NAME = "rag-lab"


def choose(state: Path, kubeconfig: Path | None = None, *, kind: bool | None = None) -> Cluster:
    """Your cluster when a kubeconfig is given; else kind or a node of this machine.

    `kind` decides; where it is None, it is the node that `state` holds already, else kind where a
    Docker engine answers.
    """
    if kubeconfig is not None:
        return ExistingCluster(kubeconfig)
    node = NodeCluster(state)
    if kind is None:
        kind = not node.state.tree.exists() and docker_answers()
    return KindCluster(NAME, state) if kind else node
