"""network-policy-matrix: every pair is dialled, after a fresh denial was seen to take effect."""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from conformance.gate import Context, Fault, Gate, Observation, Phase, ProbeError
from conformance.gates.foundation import _policies as policies
from conformance.gates.foundation._layers import LAYERS
from conformance.gates.foundation._policies import Dialled, Who
from conformance.gates.foundation._probes import namespace
from conformance.probes.cluster import (
    LABEL,
    Cluster,
    Dial,
    Object,
    changed,
    dial,
    planted,
    probe_pod,
    running,
    unique,
)
from conformance.static.matrix import Matrix
from conformance.stats import exactly

_ACCOUNT = "app.kubernetes.io/name"
_CANARY = "canary"
_CANARY_PORT = 8080
_WARM_SECONDS = 10
_AT_ONCE = 4  # pods that dial
_SECONDS, _ATTEMPTS = 1.5, 2  # a refusal is quick, a dropped packet is not
_AGENT = ("apps/v1", "DaemonSet", "kube-router")
_SYSTEM = "kube-system"
_AGENT_SECONDS = 90

Pods = Mapping[Who, Object]


def measure(context: Context) -> Observation:
    """Plant a pod for every party; see a new denial work; then dial every pair on every port."""
    cluster, matrix = context.target.cluster, policies.declared(context.target.environment)
    own = unique(cluster, "matrix")
    image = context.parameter("probe_image")
    parties = policies.parties(matrix, own)
    canary = Who(own, _CANARY)
    ports = policies.ports(matrix)
    items = [_pod(cluster, who, image, ports) for who in (*parties, canary)]
    with planted(cluster, namespace(own), *items, evidence=context.evidence) as made:
        found = running(cluster, made[1:])
        pods = dict(zip((*parties, canary), found, strict=True))
        denied, told = _canary(context, pods, Who(own), canary)
        if not denied:
            return Observation({"canary_denied": exactly(0, 1)}, notes=[told])
        del pods[canary]
        dialled = _dialled(context, cluster, matrix, pods)
    return _observation(context, matrix, dialled, told)


def _pod(cluster: Cluster, who: Who, image: str, ports: Sequence[int]) -> Object:
    name = unique(cluster, f"matrix-{who.label}")
    labels = {_ACCOUNT: who.label}
    args = [str(port) for port in ports]
    return probe_pod(name, who.namespace, image, "serve", args, labels=labels)


def _canary(context: Context, pods: Pods, client: Who, server: Who) -> tuple[bool, str]:
    """Whether a policy that denies the server everything takes effect, and how soon."""
    cluster = context.target.cluster
    door = Dial(pods[server]["status"]["podIP"], _CANARY_PORT)

    def opens() -> bool:
        return dial(cluster, pods[client], [door], _SECONDS, _ATTEMPTS)[0].connected

    cluster.wait(opens, _WARM_SECONDS, "the canary does not answer without any policy")
    limit, started = float(context.parameter("canary_seconds")), time.monotonic()
    with planted(cluster, _denial(server), evidence=context.evidence):
        while time.monotonic() - started < limit:
            if not opens():
                return True, f"a new denial took effect in {time.monotonic() - started:.1f} s"
    return False, f"a new denial had no effect in {limit:g} s: nothing enforces NetworkPolicy"


def _denial(server: Who) -> Object:
    spec = {
        "podSelector": {"matchLabels": {_ACCOUNT: server.label}},
        "policyTypes": ["Ingress"],
    }
    metadata = {"name": "deny-canary", "namespace": server.namespace}
    return _policy(metadata, spec)


def _policy(metadata: Object, spec: Object) -> Object:
    kind = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
    return {**kind, "metadata": metadata, "spec": spec}


def _dialled(context: Context, cluster: Cluster, matrix: Matrix, pods: Pods) -> list[Dialled]:
    """Every pair that the matrix speaks of on every port, then what every layer needs."""
    services = _services(cluster, matrix)
    ports = policies.ports(matrix)

    def from_one(source: Who) -> list[Dialled]:
        others = [to for to in pods if policies.concerned(source, to)]
        edges = [
            (to, pods[to]["status"]["podIP"], port, policies.expected(matrix, source, to, port))
            for to in others
            for port in ports
        ]
        if source.namespace in LAYERS:
            edges += services
        doors = [Dial(host, port) for _, host, port, _ in edges]
        answers = dial(cluster, pods[source], doors, _SECONDS, _ATTEMPTS)
        return [
            Dialled(source, to, port, wanted, answer.connected)
            for (to, _, port, wanted), answer in zip(edges, answers, strict=True)
        ]

    found: list[Dialled] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for done, rows in enumerate(pool.map(from_one, pods), 1):
            found += rows
            context.progress(done, len(pods), "dialling")
    return found


def _services(cluster: Cluster, matrix: Matrix) -> list[tuple[Who, str, int, bool]]:
    """The platform's Services that every layer may dial, and the API server, which none may."""
    found: list[tuple[Who, str, int, bool]] = []
    for where, port in sorted(matrix.reached):
        doors = [
            (Who(where, service["metadata"]["name"]), service["spec"]["clusterIP"], port, True)
            for service in cluster.list("v1", "Service", where)
            if service["spec"].get("clusterIP") not in (None, "None")
            and port in {p["port"] for p in service["spec"]["ports"] if p["protocol"] == "TCP"}
        ]
        if not doors:
            raise ProbeError(f"no Service in {where} has TCP port {port}")
        found += doors
    api = cluster.get("v1", "Service", "kubernetes", "default")["spec"]["clusterIP"]
    return [*found, (Who("default", "kubernetes"), api, 443, False)]


def _observation(
    context: Context, matrix: Matrix, dialled: Sequence[Dialled], told: str
) -> Observation:
    table = policies.side_by_side(dialled)
    context.evidence.write("matrix.txt", table)
    context.evidence.write("dialled.jsonl", ({"edge": str(d)} for d in dialled))
    different = [d for d in dialled if d.expected != d.opened]
    denials = [d for d in dialled if d.denied_by_seed]
    crossed = [d for d in denials if d.opened]
    return Observation(
        {
            "canary_denied": exactly(1, 1),
            "differences": exactly(len(different), len(dialled)),
            "seed_denials_open": exactly(len(crossed), len(denials)),
        },
        notes=[told, *(str(d) for d in dialled if d.expected or d.opened)],
    )


@contextmanager
def _allow_all(context: Context) -> Iterator[None]:
    """A policy that lets everybody into one layer and everybody in it out."""
    spec = {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{}],
        "egress": [{}],
    }
    cluster = context.target.cluster
    metadata = {"name": unique(cluster, "allow-all"), "namespace": "rag-vectordb"}
    with planted(cluster, _policy(metadata, spec)):
        yield


@contextmanager
def _unenforced(context: Context) -> Iterator[None]:
    """The agent that enforces the policies is not there to learn of new ones."""
    cluster = context.target.cluster
    _, kind, name = _AGENT
    if cluster.find(*_AGENT, _SYSTEM) is None:
        raise ProbeError(f"no {kind} {_SYSTEM}/{name}: which agent enforces policies here?")

    def scheduled(wanted: bool) -> bool:
        status = cluster.get(*_AGENT, _SYSTEM)["status"]
        current, ready = status["currentNumberScheduled"], status["numberReady"]
        desired = status["desiredNumberScheduled"]
        return bool(desired and ready == desired) if wanted else not (current or ready)

    nowhere = {"spec": {"template": {"spec": {"nodeSelector": {LABEL: "nowhere"}}}}}
    with changed(cluster, *_AGENT, nowhere, _SYSTEM):
        cluster.wait(lambda: scheduled(False), _AGENT_SECONDS, f"{name} still runs")
        yield
    cluster.wait(lambda: scheduled(True), _AGENT_SECONDS, f"{name} does not run again")


GATE = Gate(
    id="network-policy-matrix",
    phase=Phase.FOUNDATION,
    title="Only the declared pairs can talk",
    promise="only the retrieval API can talk to the vector DB, and only the retrieval API can "
    "talk to the LLM service. No cross-namespace traffic without explicit policy.",
    measure=measure,
    faults=(
        Fault("a NetworkPolicy that allows everything into and out of rag-vectordb", _allow_all),
        Fault("the policy agent is stopped, so that a new denial does not block", _unenforced),
    ),
)
