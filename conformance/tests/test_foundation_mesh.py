"""mtls-strict: which doors are tried, what counts as accepted, and whose sidecar is missing."""

import itertools

import pytest

from conformance.gate import ProbeError
from conformance.gates.foundation import _mesh, mtls_strict
from conformance.gates.foundation._layers import LAYERS
from conformance.static import matrix
from conformance.tests._fake_cluster import FakeCluster, FakeContext, made

VICTIM = "rag-retrieval"
RESET = {"connected": True, "closed": True, "error": "ConnectionResetError"}
DENIED = {"connected": True, "status": 403, "received": 120}  # RBAC, on a connection in plain text
OK = {"connected": True, "status": 200, "received": 60}


class Mesh(FakeCluster):
    """A mesh that resets plain text, unless a namespace is PERMISSIVE."""

    def __init__(self, *items):
        super().__init__(*(made("Namespace", name) for name in LAYERS), *items)
        self.numbers = itertools.count(1)
        self.hosts, self.answers, self.identified = {}, {}, OK
        self.admit, self.commands = self.start, self.dialled

    def start(self, item):
        if item["kind"] == "Pod":
            address = f"10.244.0.{next(self.numbers)}"
            self.hosts[address] = item["metadata"]["namespace"]
            names = ["probe"]
            if item["metadata"]["labels"]["sidecar.istio.io/inject"] == "true":
                names.append("istio-proxy")
            states = [{"name": n, "ready": True, "state": {"running": {}}} for n in names]
            item["status"] = {"phase": "Running", "podIP": address, "containerStatuses": states}
        return item

    def dialled(self, namespace, pod, order):
        meshed = pod == "caller"
        return [
            {**{k: d[k] for k in ("host", "port", "what")}, **self.answer(d, meshed)}
            for d in order["dials"]
        ]

    def answer(self, d, meshed):
        if d["host"] in self.answers:
            return self.answers[d["host"]]
        if d["what"] == "tcp":
            return {"connected": True}
        if meshed:
            return self.identified
        weak = self.list(
            "security.istio.io/v1", "PeerAuthentication", self.hosts.get(d["host"], "-")
        )
        return DENIED if weak else RESET


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(mtls_strict, "_ACCEPT_SECONDS", 0.1)
    monkeypatch.setattr(mtls_strict, "_PERMIT_SECONDS", 0.1)
    monkeypatch.setattr(mtls_strict, "_KNOCK_SECONDS", 0.01)


def measured(cluster):
    observation = mtls_strict.measure(FakeContext(cluster))
    return {name: (m.value, m.n) for name, m in observation.metrics.items()}, observation.notes


GREEN = {"plaintext_accepted": (0, 7), "mesh_refused": (0, 7), "unmeshed_pods": (0, 8)}


def test_a_strict_mesh_is_green_and_nothing_is_left():
    cluster = Mesh()
    assert measured(cluster)[0] == GREEN
    assert {key[1] for key in cluster.objects} == {"Namespace"}
    assert len(cluster.objects) == len(LAYERS)


def test_a_permissive_namespace_is_seen_although_rbac_answers_403():
    cluster = Mesh()
    with mtls_strict.GATE.faults[0].plant(FakeContext(cluster)):
        told, notes = measured(cluster)
    assert told == {**GREEN, "plaintext_accepted": (1, 7)}
    assert f"plain text accepted: {VICTIM}/" in " ".join(notes)
    assert measured(cluster)[0] == GREEN


def test_a_pod_without_a_sidecar_is_seen_although_a_probe_planted_it():
    cluster = Mesh()
    with mtls_strict.GATE.faults[1].plant(FakeContext(cluster)):
        assert measured(cluster)[0] == {**GREEN, "unmeshed_pods": (1, 9)}
    assert measured(cluster)[0] == GREEN


def test_an_identity_that_is_refused_is_counted():
    cluster = Mesh()
    cluster.identified = DENIED
    assert measured(cluster)[0]["mesh_refused"] == (7, 7)


@pytest.mark.parametrize(
    ("answer", "accepted"),
    [
        (RESET, 0),
        ({"connected": True, "closed": True}, 0),
        (DENIED, 1),
        ({"connected": True, "received": 9}, 1),
        ({"connected": True, "error": "held open without a reply"}, 1),
    ],
)
def test_only_a_connection_that_is_closed_without_a_byte_was_refused(answer, accepted):
    cluster = Mesh(*served("8082"))
    cluster.answers["10.9.9.9"] = answer
    assert measured(cluster)[0]["plaintext_accepted"] == (accepted, 9)


def test_without_a_connection_nothing_was_sent_so_nothing_is_known():
    cluster = Mesh(*served("8082"))
    cluster.answers["10.9.9.9"] = {"connected": False, "error": "timed out"}
    with pytest.raises(ProbeError, match="no TCP connection"):
        measured(cluster)
    assert "Pod" not in {key[1] for key in cluster.objects if "probe" in key[2]}


def test_planted_policies_that_let_nobody_in_are_no_verdict():
    cluster = Mesh()
    cluster.answer = lambda d, meshed: {"connected": False}
    with pytest.raises(ProbeError, match="let nobody in"):
        measured(cluster)


def served(port, *, layer="rag-llm", account="llm", ready=True, cluster_ip="10.96.0.9"):
    """A Service with a pod behind it."""
    labels = {"app.kubernetes.io/name": account}
    state = [{"name": "istio-proxy", "ready": True, "state": {"running": {}}}]
    status = {"phase": "Running", "containerStatuses": state}
    endpoint = {
        "addresses": ["10.9.9.9"],
        "conditions": {"ready": ready},
        "targetRef": {"name": "pod"},
    }
    ports = [{"name": "http", "protocol": "TCP", "port": int(port)}]
    own = {"labels": {"kubernetes.io/service-name": "s"}}
    discovery = "discovery.k8s.io/v1"
    spec = {"clusterIP": cluster_ip, "ports": [{"name": "http", "port": 80}]}
    return (
        made("Pod", "pod", layer, metadata={"labels": labels}, status=status, spec={}),
        made("Service", "s", layer, spec=spec),
        made(
            "EndpointSlice",
            "s-1",
            layer,
            discovery,
            metadata=own,
            ports=ports,
            endpoints=[endpoint],
        ),
    )


def doors(*items):
    return _mesh.doors(FakeCluster(*items), matrix.read())


def test_a_service_is_tried_at_its_own_address_and_at_its_pods():
    found = doors(*served("8082"))
    assert [(d.dial.host, d.dial.port) for d in found.tried] == [
        ("10.9.9.9", 8082),
        ("10.96.0.9", 80),
    ]


def test_a_headless_service_is_tried_at_its_pods():
    found = doors(*served("8082", cluster_ip="None"))
    assert [d.dial.host for d in found.tried] == ["10.9.9.9"]


def test_the_gateways_port_to_the_outside_is_exempt_and_no_other():
    gateway = {"layer": "rag-gateway", "account": "gateway"}
    assert doors(*served("8080", **gateway)).exempt == ["rag-gateway/s:80"]
    assert not doors(*served("15021", **gateway)).exempt
    assert not doors(*served("8080", layer="rag-gateway", account="guard")).exempt


def test_a_service_with_nobody_behind_it_is_told():
    found = doors(*served("8082", ready=False))
    assert (found.tried, found.empty) == ([], ["rag-llm/s:80"])


def pod(phase, *, proxy="", spec=()):
    containers = [{"name": name} for name in ("app", *spec)]
    states = [{"name": "istio-proxy", "state": {proxy: {}}}] if proxy else []
    status = {"phase": phase, "containerStatuses": states}
    return made("Pod", "p", "rag-llm", spec={"containers": containers}, status=status)


@pytest.mark.parametrize(
    ("item", "meshed"),
    [
        (pod("Running", proxy="running"), True),
        (pod("Running", proxy="terminated", spec=["istio-proxy"]), False),
        (pod("Running"), False),
        (pod("Pending", spec=["istio-proxy"]), True),
        (pod("Pending"), False),
    ],
)
def test_a_meshed_pod_has_a_sidecar_that_runs(item, meshed):
    assert mtls_strict._is_meshed(item) is meshed


@pytest.mark.parametrize("labels", [{"istio-injection": "enabled"}, {"istio.io/rev": "1-31"}])
def test_every_namespace_that_joins_the_mesh_is_looked_at(labels):
    alien = made("Namespace", "alien", metadata={"labels": labels})
    stranger = {**pod("Running"), "metadata": {"name": "p", "namespace": "alien"}}
    assert measured(Mesh(alien, stranger))[0]["unmeshed_pods"] == (1, 9)


def test_a_pod_that_has_ended_needs_no_sidecar():
    assert measured(Mesh(pod("Succeeded")))[0] == GREEN
