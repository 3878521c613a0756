"""StatefulSets that keep data: their replicas, their volumes, and their pods killed."""

from collections.abc import Iterator

from kubernetes.utils.quantity import parse_quantity

from conformance.gate import ProbeError
from conformance.probes.cluster import Cluster, Object, Objects
from conformance.probes.cluster.workloads import APPS, selector

GIB = 2**30


def stateful(cluster: Cluster, namespace: str) -> Objects:
    """The StatefulSets of a namespace whose pods have volumes of their own; raises `ProbeError`."""
    found = [
        item
        for item in cluster.list(APPS, "StatefulSet", namespace)
        if item["spec"].get("volumeClaimTemplates")
    ]
    if not found:
        raise ProbeError(f"{namespace} has no StatefulSet with volumes")
    return sorted(found, key=lambda item: str(item["metadata"]["name"]))


def members(cluster: Cluster, sets: Objects) -> Objects:
    """The pods of StatefulSets, by name."""
    found = [
        pod
        for item in sets
        for pod in cluster.list("v1", "Pod", item["metadata"]["namespace"], selector(item))
    ]
    return sorted(found, key=lambda pod: str(pod["metadata"]["name"]))


def is_ready(pod: Object) -> bool:
    """Whether the pod serves."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def sizes(cluster: Cluster, pods: Objects) -> dict[str, float]:
    """GiB of each volume that a claim gives the pods, as bound; one not bound has 0."""
    return {
        f"{pod['metadata']['name']}/{name}": _size(cluster, pod["metadata"]["namespace"], name)
        for pod in pods
        for name in _claims(pod)
    }


def _claims(pod: Object) -> Iterator[str]:
    for volume in pod["spec"].get("volumes") or []:
        if "persistentVolumeClaim" in volume:
            yield volume["persistentVolumeClaim"]["claimName"]


def _size(cluster: Cluster, namespace: str, name: str) -> float:
    status = cluster.get("v1", "PersistentVolumeClaim", name, namespace).get("status") or {}
    if status.get("phase") != "Bound":
        return 0.0
    size = parse_quantity(status["capacity"]["storage"])  # type: ignore[no-untyped-call]
    return float(size) / GIB


def crash(cluster: Cluster, pod: Object) -> None:
    """Kill every process of its first container but the first, as the kernel would: at once."""
    metadata, container = pod["metadata"], pod["spec"]["containers"][0]["name"]
    # The shell that kills is spared, and so is the container's first process, whose children die.
    command = ["sh", "-c", "kill -9 -1"]
    cluster.exec(metadata["namespace"], metadata["name"], container, command)


def replaced(cluster: Cluster, pod: Object) -> bool:
    """Whether a pod of its name but another identity serves by now."""
    metadata = pod["metadata"]
    found = cluster.find("v1", "Pod", metadata["name"], metadata["namespace"])
    return bool(found and found["metadata"]["uid"] != metadata["uid"] and is_ready(found))
