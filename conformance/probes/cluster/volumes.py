"""What keeps data, StatefulSets and clusters of CloudNativePG: replicas, volumes, and pods killed."""

from collections.abc import Iterator

from kubernetes.utils.quantity import parse_quantity

from conformance.gate import ProbeError
from conformance.probes.cluster import Cluster, Object, Objects
from conformance.probes.cluster.workloads import APPS, SETTLE_SECONDS, selector, wait_ready

GIB = 2**30
CNPG = ("postgresql.cnpg.io/v1", "Cluster")


def stateful(cluster: Cluster, namespace: str) -> Objects:
    """What keeps the pods of a namespace that have volumes of their own; raises `ProbeError`."""
    found = [
        item
        for item in cluster.list(APPS, "StatefulSet", namespace)
        if item["spec"].get("volumeClaimTemplates")
    ]
    found += cluster.find_all(*CNPG, namespace=namespace)
    if not found:
        raise ProbeError(
            f"{namespace} has no StatefulSet with volumes, and no {CNPG[1]} of {CNPG[0]}"
        )
    return sorted(found, key=lambda item: str(item["metadata"]["name"]))


def members(cluster: Cluster, sets: Objects) -> Objects:
    """Their pods, by name."""
    found = [
        pod
        for item in sets
        for pod in cluster.list("v1", "Pod", item["metadata"]["namespace"], _selector(item))
    ]
    return sorted(found, key=lambda pod: str(pod["metadata"]["name"]))


def _selector(item: Object) -> str:
    if item["kind"] == CNPG[1]:
        return f"cnpg.io/cluster={item['metadata']['name']},cnpg.io/podRole=instance"
    return selector(item)


def told(item: Object) -> int:
    """How many pods it is told to keep."""
    return int(item["spec"].get(_count(item), 1))


def telling(item: Object, count: int) -> Object:
    """The patch that tells it another number."""
    return {"spec": {_count(item): count}}


def _count(item: Object) -> str:
    return "instances" if item["kind"] == CNPG[1] else "replicas"


def settled(cluster: Cluster, item: Object) -> None:
    """Wait until all of its pods that it is told to keep are ready; raises `ProbeError`."""
    kind, meta = item["kind"], item["metadata"]
    if kind != CNPG[1]:
        wait_ready(cluster, kind, meta["namespace"], meta["name"])
        return

    def ready() -> bool:
        now = cluster.get(*CNPG, meta["name"], meta["namespace"])
        counts = (now.get("status") or {}).get
        return bool(counts("instances") == counts("readyInstances") == told(now))

    cluster.wait(ready, SETTLE_SECONDS, f"{kind} {meta['namespace']}/{meta['name']} ready")


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
