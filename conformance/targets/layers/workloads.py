"""What keeps a program of the layers running: found by its account, scaled to nothing and back."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from conformance.gate import ProbeError
from conformance.targets.kube.changing import changed
from conformance.targets.kube.client import Cluster
from conformance.targets.kube.errors import Object, Objects
from conformance.targets.kube.planting import probes_own
from conformance.targets.layers.places import ACCOUNT, Place

PAUSED = "autoscaling.keda.sh/paused-replicas"
KEDA = ("keda.sh/v1alpha1", "ScaledObject")
PAUSED_KAFKA = "strimzi.io/pause-reconciliation"
KAFKA = ("kafka.strimzi.io/v1", "Kafka")
POD_SET = ("core.strimzi.io/v1", "StrimziPodSet")
_CLUSTER = "strimzi.io/cluster"
_SCALED = (("apps/v1", "Deployment"), ("apps/v1", "StatefulSet"))
_CRON = ("batch/v1", "CronJob")
_ENDED = ("Succeeded", "Failed")


def scaled(cluster: Cluster, at: Place) -> Objects:
    """The program's Deployments and StatefulSets, those of an InferenceService too; `ApiError`."""
    found = (i for kind in _SCALED for i in cluster.list(*kind, namespace=at.namespace))
    return [item for item in found if _account(item["spec"]["template"]) == at.account]


def pod_sets(cluster: Cluster, at: Place) -> Objects:
    """Strimzi's lists of the program's pods; raises `ApiError`."""
    return [i for i in cluster.find_all(*POD_SET, namespace=at.namespace) if _is(i, at)]


def _is(item: Object, at: Place) -> bool:
    return bool(item["metadata"].get("labels", {}).get(ACCOUNT) == at.account)


def scheduled(cluster: Cluster, at: Place) -> Objects:
    """Its CronJobs; raises `ApiError`."""
    found = cluster.list(*_CRON, namespace=at.namespace)
    template = "jobTemplate"
    return [i for i in found if _account(i["spec"][template]["spec"]["template"]) == at.account]


def _account(template: Object) -> str:
    return str(template.get("metadata", {}).get("labels", {}).get(ACCOUNT, ""))


def present(cluster: Cluster, at: Place) -> Objects:
    """The program's pods that have not ended, without stand-ins; raises `ApiError`."""
    found = cluster.list("v1", "Pod", at.namespace, f"{ACCOUNT}={at.account}")
    own = [pod for pod in found if not probes_own(pod)]
    return [pod for pod in own if pod.get("status", {}).get("phase") not in _ENDED]


def brought_down(cluster: Cluster, at: Place) -> ExitStack:
    """Everything of the program set to nothing, Flux and KEDA kept away; closing it undoes that.

    Raises `ProbeError` when there is nothing to set.
    """
    with ExitStack() as stack:
        patches = [*_patches(cluster, at)]
        if not patches:
            raise ProbeError(f"{at.namespace}/{at.account}: no workload of this account")
        for item, patch in patches:
            stack.enter_context(
                changed(
                    cluster,
                    item["apiVersion"],
                    item["kind"],
                    item["metadata"]["name"],
                    patch,
                    at.namespace,
                )
            )
        for job in _jobs(cluster, at):
            cluster.delete("batch/v1", "Job", job["metadata"]["name"], at.namespace)
        return stack.pop_all()


def _patches(cluster: Cluster, at: Place) -> Iterator[tuple[Object, Object]]:
    scalers = cluster.find_all(*KEDA, namespace=at.namespace)
    for item in scaled(cluster, at):
        name = item["metadata"]["name"]
        own = [s for s in scalers if s["spec"]["scaleTargetRef"]["name"] == name]
        yield from ((s, {"metadata": {"annotations": {PAUSED: "0"}}}) for s in own)
        if not own:
            yield item, {"spec": {"replicas": 0}}
    yield from ((item, {"spec": {"suspend": True}}) for item in scheduled(cluster, at))
    sets = pod_sets(cluster, at)
    for name in sorted({item["metadata"]["labels"][_CLUSTER] for item in sets}):
        # Its operator would fill the lists again.
        kafka = cluster.get(*KAFKA, name, at.namespace)
        yield kafka, {"metadata": {"annotations": {PAUSED_KAFKA: "true"}}}
    yield from ((item, {"spec": {"pods": []}}) for item in sets)


def _jobs(cluster: Cluster, at: Place) -> Objects:
    """Jobs that its CronJobs have begun and that are not over."""
    names = {item["metadata"]["name"] for item in scheduled(cluster, at)}
    found = cluster.list("batch/v1", "Job", at.namespace) if names else []
    return [job for job in found if job.get("status", {}).get("active") and names & _owners(job)]


def _owners(item: Object) -> set[str]:
    return {str(o["name"]) for o in item["metadata"].get("ownerReferences", [])}


def wanted(cluster: Cluster, at: Place) -> int:
    """How many pods its workloads are to have now; raises `ApiError`."""
    listed = sum(len(item["spec"]["pods"]) for item in pod_sets(cluster, at))
    return listed + sum(int(item["spec"].get("replicas", 1)) for item in scaled(cluster, at))


def unsettled(cluster: Cluster, at: Place) -> str:
    """What the program's workloads still wait for, or ''; raises `ApiError`."""
    waiting = [item for item in scaled(cluster, at) if not _rolled_out(item)]
    waiting += [item for item in pod_sets(cluster, at) if not _all_ready(item)]
    if waiting:
        return f"{waiting[0]['kind']} {at.namespace}/{waiting[0]['metadata']['name']} rolls out"
    leaving = [p for p in present(cluster, at) if "deletionTimestamp" in p["metadata"]]
    return f"{leaving[0]['metadata']['name']} is leaving" if leaving else ""


def _rolled_out(item: Object) -> bool:
    status, wanted = item.get("status", {}), item["spec"].get("replicas", 1)
    seen = status.get("observedGeneration", 0) >= item["metadata"].get("generation", 0)
    return seen and all(
        status.get(field, 0) == wanted for field in ("replicas", "updatedReplicas", "readyReplicas")
    )


def _all_ready(item: Object) -> bool:
    status, listed = item.get("status", {}), len(item["spec"]["pods"])
    seen = status.get("observedGeneration", 0) >= item["metadata"].get("generation", 0)
    counts = (status.get(field, 0) for field in ("pods", "currentPods", "readyPods"))
    return seen and all(count == listed for count in counts)


def with_environment(item: Object, name: str, settings: dict[str, str]) -> dict[str, Any]:
    """The patch that gives the program's container `settings` in its environment; `ProbeError`."""
    containers = item["spec"]["template"]["spec"]["containers"]
    if name not in [c["name"] for c in containers]:
        raise ProbeError(f"{item['kind']} {item['metadata']['name']}: no container {name}")
    changed_ones = [_set(c, settings) if c["name"] == name else c for c in containers]
    return {"spec": {"template": {"spec": {"containers": changed_ones}}}}


def _set(container: Object, settings: dict[str, str]) -> Object:
    kept = [v for v in container.get("env") or [] if v["name"] not in settings]
    more = [{"name": name, "value": value} for name, value in settings.items()]
    return {**container, "env": [*kept, *more]}
