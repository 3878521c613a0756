"""mtls-strict: the layers refuse plain text on every port, and accept an identity of the mesh.

The gateway's port to the outside is no mesh traffic: its clients have no identity of the mesh. The
matrix names it under `outside`; it is not dialled, and the notes say so. Every other port is.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict

from conformance.gate import Context, Fault, Gate, Measurement, Observation, Phase, ProbeError
from conformance.gates.foundation import _mesh, _policies
from conformance.gates.foundation._layers import INJECTED, LAYERS, SIDECAR
from conformance.gates.foundation._mesh import Door
from conformance.probes.cluster import (
    FAULT,
    LABEL,
    Cluster,
    Dial,
    Object,
    Objects,
    await_open,
    containers,
    dial,
    planted,
    probe_pod,
    running,
    statuses,
    unique,
)
from conformance.stats import exactly

_VICTIM = "rag-retrieval"
_PERMIT_SECONDS = 30  # until the planted policies let the clients in
_ACCEPT_SECONDS = 30  # until the mesh knows the planted servers and their policies
_KNOCK_SECONDS = 0.5
_REVISION = "istio.io/rev"
_OK = 200


def measure(context: Context) -> Observation:
    """Send plain text to every port, then a request with an identity; look at every pod."""
    cluster, image = context.target.cluster, context.parameter("probe_image")
    probe = _mesh.Probe(unique(cluster, "mesh"), image)
    items = [*probe.clients(), *probe.servers()]
    with planted(cluster, *items, evidence=context.evidence) as made:
        pods = running(cluster, [item for item in made if item["kind"] == "Pod"])
        plain, meshed, *servers = pods
        sent, notes = _plaintext(context, plain, servers)
        identified = _identified(context, meshed, probe.name)
        every = _injected(cluster)
    unmeshed = [_name(pod) for pod in every if not _is_meshed(pod)]
    context.evidence.write("pods.json", {_name(pod): _is_meshed(pod) for pod in every})
    return Observation(
        {
            "plaintext_accepted": sent,
            "mesh_refused": identified,
            "unmeshed_pods": exactly(len(unmeshed), len(every)),
        },
        notes=[*notes, *(f"no sidecar: {name}" for name in unmeshed)],
    )


def _plaintext(
    context: Context, plain: Object, servers: Objects
) -> tuple[Measurement, Sequence[str]]:
    """How many ports answered plain text or did not hang up, of those that let it connect."""
    cluster = context.target.cluster
    planted_doors = [Door(_name(pod), _to(pod)) for pod in servers]
    knocks = [Dial(door.dial.host, door.dial.port) for door in planted_doors]
    await_open(cluster, plain, knocks, _PERMIT_SECONDS, "the planted NetworkPolicies let nobody in")
    doors = _mesh.doors(cluster, _policies.declared(context.target.environment))
    tried = [*planted_doors, *doors.tried]
    answers = dial(cluster, plain, [door.dial for door in tried], seconds=3, attempts=3)
    rows = [{"door": d.name, **asdict(a)} for d, a in zip(tried, answers, strict=True)]
    context.evidence.write("plaintext.json", rows)
    if unconnected := [row for row in rows if not row["connected"]]:
        raise ProbeError(f"no TCP connection, so nothing was sent: {unconnected[:3]}")
    accepted = [d.name for d, a in zip(tried, answers, strict=True) if a.received or not a.closed]
    notes = [f"plain text accepted: {name}" for name in accepted]
    notes += [f"open to the outside by design, not dialled: {name}" for name in doors.exempt]
    notes += [f"no pod behind it, not dialled: {name}" for name in doors.empty]
    return exactly(len(accepted), len(tried)), notes


def _to(pod: Object) -> Dial:
    return Dial(pod["status"]["podIP"], _mesh.PORT, "http")


def _identified(context: Context, meshed: Object, name: str) -> Measurement:
    """How many planted servers did not answer 200 to the mesh identity that may call them."""
    cluster = context.target.cluster
    calls = [Dial(f"{name}.{layer}.svc", _mesh.PORT, "http") for layer in LAYERS]
    deadline = time.monotonic() + _ACCEPT_SECONDS
    while True:
        answers = dial(cluster, meshed, calls)
        if all(answer.status == _OK for answer in answers) or time.monotonic() > deadline:
            break
        time.sleep(_KNOCK_SECONDS)
    context.evidence.write("identified.json", [asdict(answer) for answer in answers])
    return exactly(sum(answer.status != _OK for answer in answers), len(answers))


def _injected(cluster: Cluster) -> Objects:
    """The running pods of every meshed namespace, but for the un-meshed probes of this run."""
    names = {
        *LAYERS,
        *(n["metadata"]["name"] for n in cluster.list("v1", "Namespace") if _joins(n)),
    }
    pods = [pod for name in sorted(names) for pod in cluster.list("v1", "Pod", name)]
    alive = [p for p in pods if p["status"].get("phase") in ("Pending", "Running")]
    return [p for p in alive if _is_meshed(p) or _probe_of(p) != cluster.run_id]


def _probe_of(pod: Object) -> str:
    return str(pod["metadata"].get("labels", {}).get(LABEL, ""))


def _joins(item: Object) -> bool:
    labels: Mapping[str, str] = item["metadata"].get("labels", {})
    return labels.get(INJECTED) == "enabled" or _REVISION in labels


def _is_meshed(pod: Object) -> bool:
    """Whether its sidecar runs or, while the pod is being started, is going to."""
    if pod["status"]["phase"] == "Pending":
        return SIDECAR in containers(pod)
    return any(s["name"] == SIDECAR and "running" in s.get("state", {}) for s in statuses(pod))


def _name(pod: Object) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


@contextmanager
def _permissive(context: Context) -> Iterator[None]:
    cluster = context.target.cluster
    item = {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": unique(cluster, "permissive"), "namespace": _VICTIM},
        "spec": {"mtls": {"mode": "PERMISSIVE"}},
    }
    with planted(cluster, item):
        yield


@contextmanager
def _unmeshed(context: Context) -> Iterator[None]:
    cluster = context.target.cluster
    image, labels = context.parameter("probe_image"), {LABEL: FAULT}
    pod = probe_pod(unique(cluster, "unmeshed"), _VICTIM, image, "serve", labels=labels)
    with planted(cluster, pod) as made:
        running(cluster, made)
        yield


GATE = Gate(
    id="mtls-strict",
    phase=Phase.FOUNDATION,
    title="Only identities of the mesh are let in",
    promise="All inter-service communication is encrypted and mutually authenticated with Istio "
    "in STRICT mTLS mode.",
    measure=measure,
    faults=(
        Fault(f"a PERMISSIVE PeerAuthentication in {_VICTIM}", _permissive),
        Fault(f"a pod without a sidecar in {_VICTIM}", _unmeshed),
    ),
)
