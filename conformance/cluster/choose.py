"""Which provider a machine gets."""

from pathlib import Path

from conformance.cluster.base import Cluster
from conformance.cluster.existing import ExistingCluster
from conformance.cluster.kind import KindCluster, docker_answers
from conformance.cluster.node.provider import NodeCluster

NAME = "rag-lab"


def choose(state: Path, kubeconfig: Path | None = None) -> Cluster:
    """Your cluster when a kubeconfig is given, kind where a Docker engine answers, else the node."""
    if kubeconfig is not None:
        return ExistingCluster(kubeconfig)
    if docker_answers():
        return KindCluster(NAME, state)
    return NodeCluster(state)
