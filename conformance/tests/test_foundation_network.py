"""network-policy-matrix: what is expected, what the seed denies, and a network that is played."""

import itertools

import pytest

from conformance.gate import ProbeError
from conformance.gates.foundation import _policies as policies
from conformance.gates.foundation import network_policy_matrix as gate
from conformance.gates.foundation._layers import LAYERS
from conformance.gates.foundation._policies import Dialled, Who
from conformance.static import matrix
from conformance.static.matrix import Edge
from conformance.tests._fake_cluster import FakeCluster, FakeContext, made

RETRIEVAL, LLM = Who("rag-retrieval", "retrieval"), Who("rag-llm", "llm")
SERVICES = {"kube-system": 53, "istio-system": 15012, "vault": 8200}


class Network(FakeCluster):
    """Pods whose dials go through as the matrix says, but for what a test opens or shuts."""

    def __init__(self):
        super().__init__()
        self.numbers = itertools.count(1)
        self.enforced, self.opened, self.shut = True, set(), set()
        self.addresses, self.matrix = {}, matrix.read()
        for number, (namespace, port) in enumerate([*SERVICES.items(), ("default", 443)], 1):
            name = "kubernetes" if namespace == "default" else f"service-{namespace}"
            address = f"10.96.0.{number}"
            ports = [{"port": port, "protocol": "TCP"}]
            item = made("Service", name, namespace, spec={"clusterIP": address, "ports": ports})
            self.objects["v1", "Service", name, namespace] = item
            self.addresses[address] = Who(namespace, name)
        self.admit = self.start
        self.commands = self.dialled

    def start(self, item):
        if item["kind"] == "Pod":
            address = f"10.244.0.{next(self.numbers)}"
            account = item["metadata"]["labels"]["app.kubernetes.io/name"]
            who = Who(item["metadata"]["namespace"], "" if account == "stranger" else account)
            self.addresses[address] = who
            item["status"] = {"phase": "Running", "podIP": address}
        return item

    def dialled(self, namespace, pod, order):
        source = next(
            self.addresses[i["status"]["podIP"]]
            for i in self.list("v1", "Pod", namespace)
            if i["metadata"]["name"] == pod
        )
        return [
            {
                **{k: d[k] for k in ("host", "port", "what")},
                "connected": self.open(source, self.addresses[d["host"]], d["port"]),
            }
            for d in order["dials"]
        ]

    def open(self, source, to, port):
        if (source, to, port) in self.opened | self.shut:
            return (source, to, port) in self.opened
        if to.account == "canary":
            return not (self.enforced and self.list("networking.k8s.io/v1", "NetworkPolicy"))
        if to.namespace in SERVICES:
            return to.account.startswith("service-") and port == SERVICES[to.namespace]
        return policies.expected(self.matrix, source, to, port)


def measured(cluster, **parameters):
    context = FakeContext(cluster, **{"canary_seconds": 0.2, **parameters})
    return gate.measure(context), context.evidence.files


def values(observation):
    return {name: m.value for name, m in observation.metrics.items()}


def test_a_network_that_keeps_the_matrix_is_green():
    cluster = Network()
    observation, files = measured(cluster)
    assert values(observation) == {"canary_denied": 1, "differences": 0, "seed_denials_open": 0}
    assert observation.metrics["differences"].n > 1000
    assert observation.metrics["seed_denials_open"].n > 200
    assert any("rag-retrieval/retrieval -> rag-llm/llm:8082" in n for n in observation.notes)
    assert "expected" in files["matrix.txt"] and "measured" in files["matrix.txt"]
    assert [key[1] for key in cluster.objects] == ["Service"] * 4


def test_every_ordered_pair_of_the_layers_is_dialled():
    _, files = measured(Network())
    text = "\n".join(row["edge"] for row in files["dialled.jsonl"])
    for source, to in itertools.permutations(LAYERS, 2):
        assert f"{source}/stranger -> {to}/stranger:" in text


def test_a_pair_that_should_be_shut_and_opens_is_a_difference_and_breaks_the_seed():
    cluster = Network()
    cluster.opened.add((Who("rag-embedding"), LLM, 8082))
    observation, _ = measured(cluster)
    assert values(observation) == {"canary_denied": 1, "differences": 1, "seed_denials_open": 1}
    assert "rag-embedding/stranger -> rag-llm/llm:8082: expected shut, measured open" in (
        observation.notes
    )


def test_a_pair_that_should_be_open_and_is_shut_is_a_difference():
    cluster = Network()
    cluster.shut.add((RETRIEVAL, LLM, 8082))
    assert values(measured(cluster)[0])["differences"] == 1


def test_a_service_that_every_layer_needs_and_cannot_reach_is_a_difference():
    cluster = Network()
    cluster.shut.add((RETRIEVAL, Who("vault", "service-vault"), 8200))
    assert values(measured(cluster)[0])["differences"] == 1


def test_without_enforcement_the_canary_says_so_and_nothing_else_is_believed():
    cluster = Network()
    cluster.enforced = False
    observation, _ = measured(cluster)
    assert values(observation) == {"canary_denied": 0}
    assert "nothing enforces" in observation.notes[0]


def test_a_canary_that_never_answered_proves_nothing(monkeypatch):
    cluster = Network()
    monkeypatch.setattr(gate, "_WARM_SECONDS", 0.1)
    cluster.open = lambda source, to, port: False
    with pytest.raises(ProbeError, match="without any policy"):
        measured(cluster)
    assert [key[1] for key in cluster.objects] == ["Service"] * 4


def test_a_platform_service_that_is_not_there_is_no_verdict():
    cluster = Network()
    cluster.delete("v1", "Service", "service-vault", "vault")
    with pytest.raises(ProbeError, match="no Service in vault"):
        measured(cluster)


DECLARED = matrix.read()


@pytest.mark.parametrize(
    ("source", "to", "port", "open_"),
    [
        (RETRIEVAL, LLM, 8082, True),
        (RETRIEVAL, LLM, 8081, False),
        (Who("rag-retrieval"), LLM, 8082, False),
        (Who("rag-gateway", "guard"), LLM, 8082, False),
        (Who("monitoring", "prometheus"), LLM, 15020, True),
        (Who("monitoring"), LLM, 15020, False),
        (Who("monitoring", "prometheus"), LLM, 8082, False),
        (LLM, Who("vault"), 8200, False),
    ],
)
def test_what_the_matrix_lets_through(source, to, port, open_):
    assert policies.expected(DECLARED, source, to, port) is open_


@pytest.mark.parametrize(
    ("source", "to", "port", "denied"),
    [
        (RETRIEVAL, LLM, 8082, False),
        (Who("rag-retrieval"), LLM, 8082, True),
        (Who("rag-gateway", "gateway"), LLM, 8082, True),
        (Who("rag-gateway", "guard"), RETRIEVAL, 8080, True),
        (Who("rag-gateway", "gateway"), RETRIEVAL, 8080, False),
        (Who("rag-ingestion", "ingestion"), Who("rag-vectordb", "vectordb"), 5432, False),
        (Who("monitoring", "prometheus"), LLM, 15020, False),
        (Who("monitoring", "prometheus"), LLM, 8082, True),
        (Who("rag-llm"), LLM, 8082, False),
        (RETRIEVAL, Who("rag-audit"), 8080, False),
    ],
)
def test_what_the_seed_denies(source, to, port, denied):
    assert policies.seed_denies(source, to, port) is denied


def test_an_edited_matrix_does_not_make_a_denial_of_the_seed_green(monkeypatch):
    edge = Edge("rag-embedding", "embedding", "rag-llm", "llm", 8082)
    edited = matrix.Matrix(
        DECLARED.flows | {edge}, DECLARED.outside, DECLARED.reached, DECLARED.reaching
    )
    monkeypatch.setattr(matrix, "read", lambda **_: edited)
    observation, _ = measured(Network())  # the network follows the edited matrix as well
    assert values(observation) == {"canary_denied": 1, "differences": 0, "seed_denials_open": 1}


def test_a_matrix_that_cannot_be_read_is_no_verdict(monkeypatch, tmp_path):
    cluster, read = Network(), matrix.read
    monkeypatch.setattr(matrix, "read", lambda **_: read(tmp_path / "absent.yaml"))
    with pytest.raises(ProbeError, match=r"absent\.yaml"):
        measured(cluster)


def test_both_tables_stand_side_by_side():
    rows = [
        Dialled(RETRIEVAL, LLM, 8082, True, True),
        Dialled(LLM, RETRIEVAL, 8080, False, True),
    ]
    lines = policies.side_by_side(rows).splitlines()
    assert lines[2].split() == ["rag-llm/llm", "-", ".", "-", "1"]
    assert lines[3].split() == ["rag-retrieval/retrieval", "1", "-", "1", "-"]
    assert "1 rag-llm" in lines[-2]


def agent(scheduled):
    status = dict.fromkeys(
        ("currentNumberScheduled", "numberReady", "desiredNumberScheduled"), scheduled
    )
    spec = {"template": {"spec": {"nodeSelector": {"kubernetes.io/os": "linux"}}}}
    return made("DaemonSet", "kube-router", "kube-system", "apps/v1", spec=spec, status=status)


def test_the_agent_is_stopped_and_started_again():
    cluster = Network()
    key = ("apps/v1", "DaemonSet", "kube-router", "kube-system")
    cluster.objects[key] = agent(1)
    patch = cluster.patch

    def schedule(*args, **options):
        item = patch(*args, **options)
        nowhere = "nowhere" in str(item["spec"])
        cluster.objects[key]["status"] = agent(0 if nowhere else 1)["status"]
        return item

    cluster.patch = schedule
    with gate.GATE.faults[1].plant(FakeContext(cluster)):
        assert "nowhere" in str(cluster.objects[key]["spec"])
    assert cluster.objects[key]["spec"] == agent(1)["spec"]


def test_a_cluster_with_another_agent_cannot_have_it_stopped():
    fault = gate.GATE.faults[1].plant(FakeContext(Network()))
    with pytest.raises(ProbeError, match="which agent"), fault:
        pass
