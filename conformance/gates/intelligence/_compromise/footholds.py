"""A pod in each workload's place: its account, labels, sidecar, secrets and security context."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from conformance.probes.cluster import CONTAINER, Cluster, Object, probe_pod, probes_own, unique
from conformance.targets.kube.pods import USER
from conformance.targets.layers.places import ACCOUNT

BARE = "bare"  # the container that the sidecar does not redirect, as one in the sidecar's place
PROXY_USER = 1337
VAULT = "vault.hashicorp.com/"
# Many stand beside the platform for a while: what they ask of the node is next to nothing.
_SMALL = {
    "sidecar.istio.io/proxyCPU": "1m",
    "sidecar.istio.io/proxyMemory": "32Mi",
    "sidecar.istio.io/proxyCPULimit": "500m",
    "sidecar.istio.io/proxyMemoryLimit": "256Mi",
}
_REQUESTS = {"cpu": "1m", "memory": "24Mi"}
_SECRET = f"{VAULT}agent-inject-secret-"
_KINDS = (
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("batch/v1", "CronJob"),
    ("batch/v1", "Job"),
)


@dataclass(frozen=True, slots=True)
class Foothold:
    """A workload, the pod template that the platform has for it, and the pod in its place."""

    namespace: str
    account: str
    template: Object = field(repr=False)
    pod: Object = field(repr=False, default_factory=dict)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.account}"

    @property
    def service_account(self) -> str:
        """What its pods run as: an operator may have given it another name."""
        return str(self.template["spec"].get("serviceAccountName") or "default")

    @property
    def paths(self) -> list[str]:
        """The paths of the vault that its manifest has injected."""
        notes: Mapping[str, str] = (self.template.get("metadata") or {}).get("annotations") or {}
        return sorted({path for key, path in notes.items() if key.startswith(_SECRET)})


def template_of(cluster: Cluster, namespace: str, account: str) -> Object | None:
    """The pod template of the account's first workload, else its pod as one; raises `ApiError`."""
    for api_version, kind in _KINDS:
        for item in cluster.list(api_version, kind, namespace):
            if probes_own(item):
                continue
            spec = item["spec"]
            template: Object = (spec["jobTemplate"]["spec"] if kind == "CronJob" else spec)[
                "template"
            ]
            if _is_of(template, account):
                return template
    return next(_pods(cluster, namespace, account), None)


def _is_of(template: Object, account: str) -> bool:
    labels = (template.get("metadata") or {}).get("labels") or {}
    return account in (labels.get(ACCOUNT), template["spec"].get("serviceAccountName"))


def _pods(cluster: Cluster, namespace: str, account: str) -> Iterator[Object]:
    """Pods that an operator makes by itself."""
    for pod in cluster.list("v1", "Pod", namespace, f"{ACCOUNT}={account}"):
        if not probes_own(pod):
            yield pod


def twin(cluster: Cluster, foothold: Foothold, image: str) -> Object:
    """The pod to plant. It is never Ready, so that no Service leads to it."""
    spec = foothold.template["spec"]
    pod = probe_pod(
        unique(cluster, foothold.account),
        foothold.namespace,
        image,
        "serve",
        labels={ACCOUNT: foothold.account},
        annotations=dict(_annotations(foothold.template)),
        account=foothold.service_account,
        token=_mounts_token(cluster, foothold),
        mesh=True,
    )
    main, own = pod["spec"]["containers"][0], spec["containers"][0].get("securityContext") or {}
    of_pod = spec.get("securityContext") or {}
    user = own.get("runAsUser") or of_pod.get("runAsUser") or USER
    group = own.get("runAsGroup") or of_pod.get("runAsGroup") or user
    if user == PROXY_USER:  # a gateway's is its proxy: as one the pod would have no way out
        user = group = USER
    main["resources"] = {**main["resources"], "requests": _REQUESTS}
    main["securityContext"] = {**own, "runAsUser": user, "runAsGroup": group}
    pod["spec"]["securityContext"] = {**of_pod, "runAsUser": user, "runAsGroup": group}
    pod["spec"]["containers"].append(_bare(main))
    return pod


def _annotations(template: Object) -> Iterator[tuple[str, str]]:
    notes = (template.get("metadata") or {}).get("annotations") or {}
    own = {key: value for key, value in notes.items() if key.startswith(VAULT)}
    yield from {**own, **_SMALL}.items()
    if own:
        yield f"{VAULT}agent-pre-populate-only", "true"
        yield f"{VAULT}agent-requests-cpu", _REQUESTS["cpu"]


def _bare(main: Object) -> Object:
    """A container that runs as the proxy's user, whose traffic goes past the sidecar."""
    as_proxy = {"runAsUser": PROXY_USER, "runAsGroup": PROXY_USER}
    return {**main, "name": BARE, "securityContext": {**main["securityContext"], **as_proxy}}


def _mounts_token(cluster: Cluster, foothold: Foothold) -> bool:
    account = cluster.get("v1", "ServiceAccount", foothold.service_account, foothold.namespace)
    told = foothold.template["spec"].get("automountServiceAccountToken")
    return bool(account.get("automountServiceAccountToken", True) if told is None else told)


__all__ = ["BARE", "CONTAINER", "Foothold", "template_of", "twin"]
