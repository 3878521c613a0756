"""What Flux keeps: whether each object is as it should be, and whether all it made is there."""

import time
from collections.abc import Iterable, Iterator
from typing import Any

from conformance.cluster.flux import summary
from conformance.gate import ProbeError
from conformance.probes.cluster import Cluster, Object

KUSTOMIZE = "kustomize.toolkit.fluxcd.io/v1"
NAMESPACE, ENTRY = "flux-system", "cluster"
_SOURCE = "source.toolkit.fluxcd.io/v1"
_HELM = ("helm.toolkit.fluxcd.io/v2", "HelmRelease")
_KINDS = (
    (KUSTOMIZE, "Kustomization"),
    _HELM,
    (_SOURCE, "OCIRepository"),
    (_SOURCE, "GitRepository"),
    (_SOURCE, "HelmRepository"),
    (_SOURCE, "HelmChart"),
    (_SOURCE, "Bucket"),
)
SUSPENDED = "suspended"  # as `summary` says it
_ORIGIN = "org.opencontainers.image.revision"
_EXEMPT = (
    "kustomize.toolkit.fluxcd.io/reconcile",
    "kustomize.toolkit.fluxcd.io/ssa",
    "helm.toolkit.fluxcd.io/driftDetection",
)
_EXEMPTING = frozenset({"disabled", "Ignore", "IfNotPresent"})
_POLL_SECONDS = 1.0


def kustomizations(cluster: Cluster) -> list[Object]:
    """Every Flux Kustomization; raises `ProbeError` when there is none."""
    found = cluster.list(KUSTOMIZE, "Kustomization")
    if not found:
        raise ProbeError("the cluster has no Flux Kustomization: it is not kept by Flux")
    return found


def appliers(cluster: Cluster) -> list[Object]:
    """All of Flux that applies objects: Kustomizations, and Helm releases where there are any."""
    return [*kustomizations(cluster), *cluster.find_all(*_HELM)]


def entry_source(cluster: Cluster) -> Object:
    """The source of the entry's Kustomization: the checkout."""
    item = cluster.get(KUSTOMIZE, "Kustomization", ENTRY, NAMESPACE)
    reference, namespace = item["spec"]["sourceRef"], item["metadata"]["namespace"]
    where = reference.get("namespace", namespace)
    return cluster.get(_SOURCE, reference["kind"], reference["name"], where)


def revision_of(source: Object) -> str:
    """The Git revision that a source holds, else its own."""
    artifact = (source.get("status") or {}).get("artifact") or {}
    return str((artifact.get("metadata") or {}).get(_ORIGIN) or artifact.get("revision", ""))


def judged_revision(cluster: Cluster, declared: str) -> str:
    """The revision that is judged: the declared one, else that of the entry's source."""
    held = revision_of(entry_source(cluster))
    if not held:
        raise ProbeError(f"the source of the Kustomization {ENTRY} holds no artifact")
    if declared and "@sha1:" not in held:  # without it nothing below could be held against it
        raise ProbeError(f"the source of the Kustomization {ENTRY} tells no Git revision: {held}")
    return declared or held


def not_ready(cluster: Cluster, revision: str, seconds: float) -> dict[str, str]:
    """Every object of Flux, and why it is not as it should be ('' when it is).

    An object that is reconciled just now has until `seconds` are over to become Ready once.
    """
    deadline = time.monotonic() + seconds
    good: set[str] = set()
    while True:
        found = dict(_look(cluster, revision))
        good |= {name for name, why in found.items() if not why}
        waiting = {why for name, why in found.items() if name not in good}
        if not waiting or SUSPENDED in waiting or time.monotonic() > deadline:
            return {name: "" if name in good else why for name, why in found.items()}
        time.sleep(_POLL_SECONDS)


def _look(cluster: Cluster, revision: str) -> Iterator[tuple[str, str]]:
    for api_version, kind in _KINDS:
        # A controller of Flux that is not installed has no kind.
        for item in cluster.find_all(api_version, kind):
            yield f"{kind} {item['metadata']['name']}", _why(item, revision)


def _why(item: Object, revision: str) -> str:
    meta, seen = item["metadata"], summary(item, revision)
    if "deletionTimestamp" in meta:
        return "is being deleted"
    return "" if seen.ready else seen.said or "is not Ready"


def entries(items: Iterable[Object]) -> Iterator[tuple[str, str, str, str]]:
    """API version, kind, namespace and name of all that they have applied."""
    for item in items:
        inventory = (item.get("status") or {}).get("inventory") or {}
        for entry in inventory.get("entries") or []:
            namespace, _, rest = entry["id"].partition("_")
            name, group, kind = rest.rsplit("_", 2)
            version = f"{group}/{entry['v']}" if group else entry["v"]
            # RBAC names have colons, which the inventory writes as two underscores.
            yield version, kind, namespace, name.replace("__", ":")


def astray(cluster: Cluster, wanted: Iterable[tuple[str, str, str, str]]) -> dict[str, str]:
    """Each object of the inventories, and why Flux does not keep it ('' when it does)."""
    kinds: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for version, kind, namespace, name in wanted:
        kinds.setdefault((version, kind), []).append((namespace, name))
    found: dict[str, str] = {}
    for (version, kind), names in kinds.items():
        there = {_key(item): item for item in cluster.list(version, kind)}
        for namespace, name in names:
            where = f"{kind} {namespace}/{name}".replace(" /", " ")
            item = there.get((namespace, name))
            found[where] = _exempt(item) if item else "is not there"
    return found


def _key(item: Object) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _exempt(item: Object) -> str:
    metadata = item["metadata"]
    marks: dict[str, Any] = {**metadata.get("labels", {}), **metadata.get("annotations", {})}
    exempt = [f"{key}: {marks[key]}" for key in _EXEMPT if marks.get(key) in _EXEMPTING]
    return f"is exempt from correction by {', '.join(exempt)}" if exempt else ""
