"""namespaces: each layer has its own, and the API server really refuses what does not belong there."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from conformance.gate import Context, Fault, Gate, Observation, Phase
from conformance.gates.foundation._layers import ENFORCED, INJECTED, LAYERS, PLATFORM, SIDECAR
from conformance.probes.cluster import (
    CONTAINER,
    ApiError,
    Cluster,
    Object,
    changed,
    containers,
    probe_pod,
    unique,
)
from conformance.stats import exactly

_VICTIM = "rag-llm"
_FORBIDDEN = 403
_MUCH = {"cpu": "10000", "memory": "10000Gi"}  # above any quota
_GUARDS = {"ResourceQuota": "hard", "LimitRange": "limits"}
_LABELS = {ENFORCED: "restricted", INJECTED: "enabled"}
_QUOTA_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Trial:
    """What the API server did with pods that were created dry in a layer's namespace."""

    namespace: str
    uninjected: bool
    unbounded: bool
    over_quota_admitted: bool


def measure(context: Context) -> Observation:
    """Look for every namespace and its guards; then try to create what each guard has to refuse."""
    cluster, image = context.target.cluster, context.parameter("probe_image")
    there = {item["metadata"]["name"]: item for item in cluster.list("v1", "Namespace")}
    missing = [*_missing(cluster, there)]
    restricted = [name for name in (*LAYERS, *PLATFORM) if name in there]
    privileged = [name for name in restricted if _privileged_admitted(cluster, name, image)]
    trials = [_trial(cluster, name, image) for name in LAYERS if name in there]
    context.evidence.write("missing.json", missing)
    context.evidence.write("trials.json", [asdict(t) for t in trials])
    context.evidence.write("privileged.json", {n: n in privileged for n in restricted})
    looked_for = len(LAYERS) * (1 + len(_LABELS) + len(_GUARDS)) + len(PLATFORM) * 2
    kinds = ("uninjected", "unbounded", "over_quota_admitted")
    metrics = {k: exactly(sum(getattr(t, k) for t in trials), len(trials)) for k in kinds}
    metrics["missing"] = exactly(len(missing), looked_for)
    metrics["privileged_admitted"] = exactly(len(privileged), len(restricted))
    return Observation(metrics, notes=[f"missing: {what}" for what in missing])


def _missing(cluster: Cluster, there: Mapping[str, Object]) -> Iterator[str]:
    """What is declared for a namespace and not there, whether or not it would be effective."""
    guarded = {kind: _guarded(cluster, kind, field) for kind, field in _GUARDS.items()}
    for name in (*LAYERS, *PLATFORM):
        if name not in there:
            yield f"namespace {name}"
        labels = there.get(name, {}).get("metadata", {}).get("labels", {})
        for key, value in _LABELS.items():
            if labels.get(key) != value and (name in LAYERS or key == ENFORCED):
                yield f"label {key}={value} of {name}"
        if name in LAYERS:
            yield from (f"{kind} of {name}" for kind in _GUARDS if name not in guarded[kind])


def _guarded(cluster: Cluster, kind: str, field: str) -> set[str]:
    found = cluster.list("v1", kind)
    return {item["metadata"]["namespace"] for item in found if item["spec"].get(field)}


def _privileged_admitted(cluster: Cluster, namespace: str, image: str) -> bool:
    pod = probe_pod(unique(cluster, "privileged"), namespace, image, "serve")
    pod["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    return _admitted(cluster, pod, "violates PodSecurity") is not None


def _trial(cluster: Cluster, namespace: str, image: str) -> Trial:
    plain = probe_pod(unique(cluster, "plain"), namespace, image, "serve", mesh=True)
    del plain["metadata"]["labels"]  # the namespace alone decides on its sidecar
    del plain["spec"]["containers"][0]["resources"]
    much = probe_pod(unique(cluster, "much"), namespace, image, "serve")
    much["spec"]["containers"][0]["resources"] = {"requests": _MUCH, "limits": _MUCH}
    # Without the LimitRange's defaults the quota itself refuses a pod that asks for nothing.
    made = _admitted(cluster, plain, "must specify (requests|limits)")
    return Trial(
        namespace,
        uninjected=made is not None and SIDECAR not in containers(made),
        unbounded=made is None or not _bounded(made),
        over_quota_admitted=_admitted(cluster, much, "exceeded quota") is not None,
    )


def _bounded(pod: Object) -> bool:
    (container,) = [c for c in pod["spec"]["containers"] if c["name"] == CONTAINER]
    found = container.get("resources", {})
    return all({"cpu", "memory"} <= set(found.get(k, {})) for k in ("requests", "limits"))


def _admitted(cluster: Cluster, pod: Object, refusal: str) -> Object | None:
    """The pod as it would be made, or None when it is refused for that reason.

    Raises `ProbeError` when it is refused for another: then its guard was not tried.
    """
    try:
        return cluster.create(pod, dry_run=True)
    except ApiError as error:
        if error.status == _FORBIDDEN and re.search(refusal, error.message):
            return None
        raise


@contextmanager
def _unrestricted(context: Context) -> Iterator[None]:
    labels = {"metadata": {"labels": {ENFORCED: None}}}
    with changed(context.target.cluster, "v1", "Namespace", _VICTIM, labels):
        yield


@contextmanager
def _uninjected(context: Context) -> Iterator[None]:
    labels = {"metadata": {"labels": {INJECTED: None}}}
    with changed(context.target.cluster, "v1", "Namespace", _VICTIM, labels):
        yield


@contextmanager
def _without_quota(context: Context) -> Iterator[None]:
    cluster = context.target.cluster
    (quota,) = cluster.list("v1", "ResourceQuota", _VICTIM)
    name = quota["metadata"]["name"]

    def enforced(hard: Mapping[str, str]) -> bool:
        now = cluster.get("v1", "ResourceQuota", name, _VICTIM)
        return bool(now.get("status", {}).get("hard", {}) == hard)

    nothing = {"spec": {"hard": None}}
    with changed(cluster, "v1", "ResourceQuota", name, nothing, _VICTIM):
        cluster.wait(lambda: enforced({}), _QUOTA_SECONDS, "the quota is still enforced")
        yield
    cluster.wait(lambda: enforced(quota["spec"]["hard"]), _QUOTA_SECONDS, "no quota is enforced")


@contextmanager
def _without_defaults(context: Context) -> Iterator[None]:
    cluster = context.target.cluster
    (limits,) = cluster.list("v1", "LimitRange", _VICTIM)
    name = limits["metadata"]["name"]
    with changed(cluster, "v1", "LimitRange", name, {"spec": {"limits": []}}, _VICTIM):
        yield


GATE = Gate(
    id="namespaces",
    phase=Phase.FOUNDATION,
    title="A guarded namespace for each layer",
    promise="Every layer of the RAG pipeline lives in its own Kubernetes namespace",
    measure=measure,
    faults=(
        Fault(f"Pod Security is no longer enforced in {_VICTIM}", _unrestricted),
        Fault(f"{_VICTIM} is taken out of the mesh", _uninjected),
        Fault(f"the quota of {_VICTIM} bounds nothing", _without_quota),
        Fault(f"the LimitRange of {_VICTIM} gives no defaults", _without_defaults),
    ),
)
