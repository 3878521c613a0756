"""Rolling restarts, as a new image or setting would cause them, waited for to their end."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from conformance.gate import ProbeError
from conformance.probes.cluster import Cluster, Object, changed
from conformance.probes.cluster.workloads import APPS, selector

KSERVE, INFERENCE = "serving.kserve.io/v1beta1", "InferenceService"
MARK = "rag-blueprint.dev/rollout"


@dataclass(frozen=True, slots=True)
class Workload:
    """A Deployment, and the InferenceService that makes it (or '': it is its own)."""

    namespace: str
    deployment: str
    inference: str = ""

    @classmethod
    def of(cls, cluster: Cluster, where: str) -> "Workload":
        """The workload `namespace/deployment`; raises `ProbeError` when it is not there."""
        namespace, _, name = where.partition("/")
        owners = cluster.get(APPS, "Deployment", name, namespace)["metadata"].get("ownerReferences")
        made_by = [o["name"] for o in owners or [] if o["kind"] == INFERENCE]
        return cls(namespace, name, made_by[0] if made_by else "")

    def __str__(self) -> str:
        return f"{self.namespace}/{self.deployment}"


@contextmanager
def rolled(cluster: Cluster, workload: Workload, seconds: float) -> Iterator[None]:
    """Inside the block every pod is a new one; leaving it rolls back to the template as it was.

    Both ways it waits until the old pods are gone; raises `ProbeError` after `seconds` each.
    """
    before = pods(cluster, workload)
    if not before:
        raise ProbeError(f"{workload} has no pod to replace")
    with _marked(cluster, workload):
        _replaced(cluster, workload, before, seconds)
        between = pods(cluster, workload)
        yield
    _replaced(cluster, workload, between, seconds)


@contextmanager
def _marked(cluster: Cluster, workload: Workload) -> Iterator[None]:
    """The pod template carries a new annotation; KServe's controller would take it out itself."""
    mark = {MARK: secrets.token_hex(4)}
    if workload.inference:
        ref = (KSERVE, INFERENCE, workload.inference)
        patch: Object = {"spec": {"predictor": {"annotations": mark}}}
    else:
        ref = (APPS, "Deployment", workload.deployment)
        patch = {"spec": {"template": {"metadata": {"annotations": mark}}}}
    with changed(cluster, *ref, patch, workload.namespace):
        yield


def pods(cluster: Cluster, workload: Workload) -> frozenset[str]:
    """Identities of its pods, those that are ending among them."""
    item = cluster.get(APPS, "Deployment", workload.deployment, workload.namespace)
    found = cluster.list("v1", "Pod", workload.namespace, selector(item))
    return frozenset(pod["metadata"]["uid"] for pod in found)


def _replaced(cluster: Cluster, workload: Workload, old: frozenset[str], seconds: float) -> None:
    def done() -> bool:
        return not old & pods(cluster, workload) and complete(
            cluster.get(APPS, "Deployment", workload.deployment, workload.namespace)
        )

    cluster.wait(done, seconds, f"{workload}: every pod replaced")


def complete(deployment: Object) -> bool:
    """Whether its newest template is what runs, all of it available, and nothing else."""
    status, wanted = deployment.get("status") or {}, deployment["spec"].get("replicas", 1)
    return bool(
        status.get("observedGeneration") == deployment["metadata"]["generation"]
        and status.get("updatedReplicas", 0) == wanted
        and status.get("availableReplicas", 0) == wanted
        and status.get("replicas", 0) == wanted
    )
