"""cis-benchmark: the CIS Kubernetes Benchmark's checks that need no person, really made."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from conformance.gate import Context, Fault, Gate, Observation, Phase, ProbeError
from conformance.gates.foundation import _etcd
from conformance.gates.intelligence import _cis
from conformance.gates.intelligence._cis import CHECKS, State
from conformance.probes.cluster import FAULT, LABEL, Cluster, Object, planted, unique
from conformance.probes.cluster.modes import Modes, modes
from conformance.stats import exactly

COMPONENTS = (_cis.API, _cis.MANAGER, _cis.SCHEDULER, _cis.ETCD)
JUDGED, RBAC = "judged", "rbac.authorization.k8s.io/v1"
NAMESPACE = "rag-retrieval"


def measure(context: Context) -> Observation:
    """Checks that fail, and those that fail but are excepted; an exception that is not needed fails."""
    plane = str(context.parameter("control_plane"))
    state = _state(context, plane == JUDGED)
    found = _judged(state, plane == JUDGED)
    excepted: Mapping[str, str] = context.parameter("exceptions")
    failed = {i: told for i, told in found.items() if told and i not in excepted}
    failed |= {i: ["an exception that is not needed"] for i in excepted if not found.get(i)}
    context.evidence.write(
        "checks.json",
        {
            "source": "CIS Kubernetes Benchmark, as kube-bench's cis-1.12",
            "checks": [
                {"id": c.id, "title": c.title, "wrong": found.get(c.id, "not judged")}
                for c in CHECKS
            ],
        },
    )
    return Observation(
        {
            "failed": exactly(len(failed), len(found)),
            "excepted": exactly(len(excepted), len(found)),
        },
        notes=[
            *(f"{i}: {'; '.join(told[:3])}" for i, told in failed.items()),
            *(f"{i} excepted: {reason}" for i, reason in excepted.items()),
            *([] if plane == JUDGED else [f"control plane not judged: {plane}"]),
        ],
    )


def _judged(state: State, plane: bool) -> dict[str, list[str]]:
    """What is wrong by number; two lines of one number are one check."""
    found: dict[str, list[str]] = {}
    for check in CHECKS:
        if plane or not check.plane:
            found.setdefault(check.id, []).extend(check.judge(state))
    return found


def _state(context: Context, plane: bool) -> State:
    cluster = context.target.cluster
    nodes = [node["metadata"]["name"] for node in cluster.list("v1", "Node")]
    if not nodes:
        raise ProbeError("the cluster has no node")
    kubelets = {node: _configuration(cluster, node) for node in nodes}
    if not plane:
        return State(cluster, {}, kubelets, {})
    flags = {component: _flags(cluster, component) for component in COMPONENTS}
    data_dirs = {member.node: member.folder for member in _etcd.members(cluster)}
    files = {node: _files(context, node, data_dirs.get(node, "")) for node in nodes}
    return State(cluster, flags, kubelets, files, data_dirs)


def _flags(cluster: Cluster, component: str) -> dict[str, dict[str, str]]:
    """The flags of a component's static pods by pod; raises `ProbeError` when there is none."""
    found = cluster.list("v1", "Pod", _etcd.SYSTEM, f"component={component}")
    if not found:
        raise ProbeError(
            f"no static pod of {component}: say `control_plane: 'unreachable: <the reason>'` "
            "in the SLO file where it is not yours"
        )
    return {pod["metadata"]["name"]: _etcd.flags(pod) for pod in found}


def _configuration(cluster: Cluster, node: str) -> Object:
    """The settings that the node's kubelet runs with; raises `ApiError`."""
    found = cluster.raw(f"/api/v1/nodes/{node}/proxy/configz")
    try:
        settings: Object = found["kubeletconfig"]
    except (KeyError, TypeError) as error:
        raise ProbeError(f"{node}: /configz answers {str(found)[:100]}") from error
    return settings


def _files(context: Context, node: str, data_dir: str) -> Modes:
    folders = [_cis.KUBERNETES, f"{_cis.KUBELET}/config.yaml"]
    folders += [data_dir] if data_dir else []
    found = dict(modes(context.target.cluster, context.parameter("probe_image"), node, folders))
    if f"{_cis.KUBERNETES}/kubelet.conf" not in found:
        raise ProbeError(f"{node}: no {_cis.KUBERNETES}/kubelet.conf: not laid out as kubeadm does")
    return found


@contextmanager
def _secrets_for_everybody(context: Context) -> Iterator[None]:
    """A Role that lets every account of the cluster read a layer's Secrets."""
    cluster = context.target.cluster
    name = unique(cluster, "everybody")
    metadata = {"name": name, "namespace": NAMESPACE, "labels": {LABEL: FAULT}}
    rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]
    subject = {"kind": "Group", "name": "system:authenticated", "apiGroup": RBAC.partition("/")[0]}
    role: Object = {"apiVersion": RBAC, "kind": "Role", "metadata": metadata, "rules": rules}
    binding: Object = {
        "apiVersion": RBAC,
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": RBAC.partition("/")[0], "kind": "Role", "name": name},
        "subjects": [subject],
    }
    with planted(cluster, role, binding):
        yield


GATE = Gate(
    id="cis-benchmark",
    phase=Phase.INTELLIGENCE,
    title="The cluster holds the CIS benchmark's automated checks",
    promise="Security audit: run Trivy container scanning + Kube-bench CIS scan",
    measure=measure,
    faults=(Fault("every account may read a layer's Secrets", _secrets_for_everybody),),
)
