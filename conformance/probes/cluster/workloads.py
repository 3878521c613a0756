"""Workloads that a fault takes down, and that are up again after it."""

from collections.abc import Iterator
from contextlib import contextmanager

from conformance.probes.cluster import LABEL, Cluster, Object, changed

APPS = "apps/v1"
SETTLE_SECONDS = 120.0


def selector(workload: Object) -> str:
    """The label selector of a workload's pods, without those of a probe that stand in its place."""
    labels = workload["spec"]["selector"]["matchLabels"]
    return ",".join([*(f"{key}={value}" for key, value in labels.items()), f"!{LABEL}"])


@contextmanager
def stopped(cluster: Cluster, namespace: str, name: str) -> Iterator[None]:
    """Inside the block the Deployment has no pod; after it, it is ready again."""
    before = cluster.get(APPS, "Deployment", name, namespace)
    pods = selector(before)
    try:
        with changed(cluster, APPS, "Deployment", name, {"spec": {"replicas": 0}}, namespace):
            cluster.wait(
                lambda: not cluster.list("v1", "Pod", namespace, pods),
                SETTLE_SECONDS,
                f"{namespace}/{name} without a pod",
            )
            yield
    finally:
        wait_ready(cluster, "Deployment", namespace, name)


def restart(cluster: Cluster, namespace: str, name: str) -> None:
    """Delete the StatefulSet's pods and wait for new ones; raises `ProbeError`."""
    pods = selector(cluster.get(APPS, "StatefulSet", name, namespace))
    old = {pod["metadata"]["uid"] for pod in cluster.list("v1", "Pod", namespace, pods)}
    for pod in cluster.list("v1", "Pod", namespace, pods):
        cluster.delete("v1", "Pod", pod["metadata"]["name"], namespace)
    cluster.wait(
        lambda: (
            not old & {p["metadata"]["uid"] for p in cluster.list("v1", "Pod", namespace, pods)}
        ),
        SETTLE_SECONDS,
        f"{namespace}/{name}: the old pods gone",
    )
    wait_ready(cluster, "StatefulSet", namespace, name)


def wait_ready(cluster: Cluster, kind: str, namespace: str, name: str) -> None:
    """Wait until every replica is ready; raises `ProbeError`."""
    cluster.wait(
        lambda: _is_ready(cluster.get(APPS, kind, name, namespace)),
        SETTLE_SECONDS,
        f"{kind} {namespace}/{name} ready",
    )


def _is_ready(workload: Object) -> bool:
    status, wanted = workload.get("status") or {}, workload["spec"].get("replicas", 1)
    seen = status.get("observedGeneration") == workload["metadata"]["generation"]
    return bool(seen and status.get("readyReplicas", 0) == wanted)
