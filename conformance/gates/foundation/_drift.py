"""Objects of the platform that are changed by hand, and how long Flux takes to put them back."""

from conformance.gates.foundation._flux import KUSTOMIZE, NAMESPACE
from conformance.gates.foundation._probes import seconds_until
from conformance.probes.cluster import Cluster, Object, planted, unique

# Nothing depends on these from one moment to the next, and every environment has them.
DELETED = ("v1", "ConfigMap", "dashboard-rag", "monitoring")
EDITED = ("v1", "ResourceQuota", "compute", "rag-audit")
_FIXTURES = "./clusters/probe"


def deleted(cluster: Cluster, seconds: float) -> float | None:
    """Seconds until a deleted object is there again, None when not within `seconds`."""
    before = cluster.get(*DELETED)
    cluster.delete(*DELETED)
    old = {"", _uid(before)}
    taken = seconds_until(lambda: _uid(cluster.find(*DELETED)) not in old, seconds)
    if taken is None:
        cluster.apply(_anew(before))
    return taken


def edited(cluster: Cluster, seconds: float) -> float | None:
    """Seconds until an object edited by hand is as it was, None when not within `seconds`."""
    before = _pods(cluster.get(*EDITED))
    api_version, kind, name, namespace = EDITED
    patch = {"spec": {"hard": {"pods": str(int(before) + 1)}}}
    cluster.patch(api_version, kind, name, patch, namespace)
    taken = seconds_until(lambda: _pods(cluster.get(*EDITED)) == before, seconds)
    if taken is None:
        cluster.patch(api_version, kind, name, {"spec": {"hard": {"pods": before}}}, namespace)
    return taken


def pruned(cluster: Cluster, source: Object, seconds: float) -> tuple[bool, str]:
    """Whether what left a Kustomization's folder left the cluster; raises `ProbeError`.

    A Kustomization of the probe's own applies one folder of the checkout, then another.
    """
    name = unique(cluster, "prune")
    dropped, kept = f"{name}-dropped", f"{name}-kept"
    with planted(cluster, _kustomization(name, source)):
        cluster.wait(
            lambda: _there(cluster, dropped) and _there(cluster, kept),
            seconds,
            f"Flux has not applied {_FIXTURES}/before",
        )
        where = (KUSTOMIZE, "Kustomization", name)
        cluster.patch(*where, {"spec": {"path": f"{_FIXTURES}/after"}}, NAMESPACE)
        gone = seconds_until(lambda: not _there(cluster, dropped), seconds) is not None
        stayed = _there(cluster, kept)
    cleaned = seconds_until(lambda: not _there(cluster, kept), seconds) is not None
    told = f"dropped object gone: {gone}, kept object stayed: {stayed}, all gone after: {cleaned}"
    return gone and stayed and cleaned, told


def _kustomization(name: str, source: Object) -> Object:
    return {
        "apiVersion": KUSTOMIZE,
        "kind": "Kustomization",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "path": f"{_FIXTURES}/before",
            "sourceRef": {
                "kind": source["kind"],
                "name": source["metadata"]["name"],
                "namespace": source["metadata"]["namespace"],
            },
            "targetNamespace": NAMESPACE,
            "namePrefix": f"{name}-",
            "interval": "1m",
            "retryInterval": "5s",
            "timeout": "30s",
            "prune": True,
        },
    }


def _there(cluster: Cluster, name: str) -> bool:
    return cluster.find("v1", "ConfigMap", name, NAMESPACE) is not None


def _uid(item: Object | None) -> str:
    return str(item["metadata"]["uid"]) if item else ""


def _anew(item: Object) -> Object:
    """The object without what the server wrote into it."""
    kept = ("name", "namespace", "labels", "annotations")
    metadata = {key: value for key, value in item["metadata"].items() if key in kept}
    return {**item, "metadata": metadata}


def _pods(item: Object) -> str:
    return str(item["spec"]["hard"]["pods"])
