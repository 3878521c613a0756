"""Pods that run a probe's script within Pod Security `restricted`."""

from collections.abc import Iterator, Mapping, Sequence
from importlib import resources

from conformance.gate import ProbeError
from conformance.targets.kube.autopsy import events
from conformance.targets.kube.client import Cluster
from conformance.targets.kube.errors import Object, Objects

CONTAINER = "probe"
USER = 65532
START_SECONDS = 90.0
_NEVER = {"conditionType": "rag-blueprint.dev/never"}  # nobody sets it: no Service picks the pod
_HOPELESS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError")
_PASSING = "pull QPS exceeded"  # of many pods on a fresh node; the kubelet pulls again


def source(script: str) -> str:
    """The text of `scripts/<script>.py`."""
    return (resources.files(__package__) / "scripts" / f"{script}.py").read_text(encoding="utf-8")


def probe_pod(
    name: str,
    namespace: str,
    image: str,
    script: str,
    args: Sequence[str] = (),
    *,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    account: str = "default",
    token: bool = False,
    mesh: bool = False,
    ready: bool = False,
) -> Object:
    """A pod that runs `python3 -c <script> <args>` and is ended after 15 minutes.

    `mesh` gives it a sidecar, `token` its account's token; unless `ready` it never becomes Ready,
    so that no Service sends it traffic.
    """
    meshed = {"sidecar.istio.io/inject": "true" if mesh else "false"}
    spec: Object = {
        "serviceAccountName": account,
        "automountServiceAccountToken": token,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "activeDeadlineSeconds": 900,
        "terminationGracePeriodSeconds": 1,
        "readinessGates": [] if ready else [_NEVER],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(image, ["python3", "-u", "-c", source(script), *args])],
    }
    metadata = {
        "name": name,
        "namespace": namespace,
        "labels": {**meshed, **(labels or {})},
        "annotations": {**(annotations or {})},
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _container(image: str, command: list[str]) -> Object:
    return {
        "name": CONTAINER,
        "image": image,
        "command": command,
        "resources": {
            "requests": {"cpu": "5m", "memory": "24Mi"},
            "limits": {"cpu": "500m", "memory": "96Mi"},
        },
        "securityContext": {
            "runAsUser": USER,  # here too: the vault's injector looks nowhere else
            "runAsGroup": USER,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def running(cluster: Cluster, pods: Objects, seconds: float = START_SECONDS) -> Objects:
    """The pods, as soon as all run with every container started and the sidecars Ready.

    Raises `ProbeError` with what holds them up when that takes longer, or cannot come.
    """
    waiting = {(p["metadata"]["namespace"], p["metadata"]["name"]) for p in pods}
    seen: dict[tuple[str, str], Object] = {}

    def all_run() -> bool:
        for namespace in {where[0] for where in waiting}:
            found = cluster.list("v1", "Pod", namespace)
            seen.update({(namespace, p["metadata"]["name"]): p for p in found})
        waiting.difference_update({where for where in waiting if _runs(seen.get(where))})
        return not waiting

    try:
        cluster.wait(all_run, seconds, "probe pods do not run")
    except ProbeError as error:
        held = "; ".join(_held(cluster, name, seen.get(name)) for name in sorted(waiting)[:3])
        raise ProbeError(f"{error}: {len(waiting)} of {len(pods)}: {held}") from error
    return [seen[p["metadata"]["namespace"], p["metadata"]["name"]] for p in pods]


def statuses(pod: Object) -> Iterator[Object]:
    """The container statuses of a pod, the initial ones first."""
    status = pod.get("status", {})
    yield from status.get("initContainerStatuses", [])
    yield from status.get("containerStatuses", [])


def _runs(pod: Object | None) -> bool:
    if pod is None:
        return False
    if reason := _hopeless(pod):
        raise ProbeError(f"pod {pod['metadata']['namespace']}/{pod['metadata']['name']}: {reason}")
    status = pod.get("status", {})
    return status.get("phase") == "Running" and all(s.get("ready") for s in statuses(pod))


def _hopeless(pod: Object) -> str:
    if pod.get("status", {}).get("phase") in ("Failed", "Succeeded"):
        return f"has ended: {pod['status'].get('message') or pod['status']['phase']}"
    waiting = [s.get("state", {}).get("waiting", {}) for s in statuses(pod)]
    told = [f"{w['reason']}: {w.get('message')}" for w in waiting if w.get("reason") in _HOPELESS]
    return "; ".join(text for text in told if _PASSING not in text)


def _held(cluster: Cluster, where: tuple[str, str], pod: Object | None) -> str:
    name = "/".join(where)
    if pod is None:
        return f"{name} is gone"
    told = [*events(cluster, pod)][-2:]
    states = [f"{s['name']} {next(iter(s.get('state') or {'unknown': 0}))}" for s in statuses(pod)]
    return f"{name} {pod['status'].get('phase')} ({', '.join(states)}; {'; '.join(told)})"
