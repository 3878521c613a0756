"""namespaces: what is missing, what the API server admits, and what was not tried."""

import pytest

from conformance.gate import ProbeError
from conformance.gates.foundation import namespaces
from conformance.gates.foundation._layers import ENFORCED, INJECTED, LAYERS, PLATFORM, SIDECAR
from conformance.probes.cluster import ApiError
from conformance.tests._fake_cluster import FakeCluster, FakeContext, made

HARD = {"pods": "20", "requests.cpu": "2"}
VICTIM = "rag-llm"


def labelled(name):
    labels = {ENFORCED: "restricted", **({INJECTED: "enabled"} if name in LAYERS else {})}
    return made("Namespace", name, metadata={"labels": labels})


class Server(FakeCluster):
    """Admits pods as the API server of the platform does."""

    def __init__(self):
        super().__init__(*map(labelled, (*LAYERS, *PLATFORM)))
        for name in LAYERS:
            self.create(
                made("ResourceQuota", "q", name, spec={"hard": HARD}, status={"hard": HARD})
            )
            self.create(made("LimitRange", "l", name, spec={"limits": [{"type": "Container"}]}))
        self.admit = self.admission

    def patch(self, api_version, kind, name, body, namespace=""):
        item = super().patch(api_version, kind, name, body, namespace)
        if kind == "ResourceQuota":
            stored = self.objects[api_version, kind, name, namespace]
            stored["status"] = {"hard": dict(stored["spec"].get("hard", {}))}
        return item

    def admission(self, item):
        if item["kind"] != "Pod":
            return item
        namespace = item["metadata"]["namespace"]
        labels = self.get("v1", "Namespace", namespace)["metadata"]["labels"]
        (container,) = item["spec"]["containers"]
        if container["securityContext"].get("privileged") and ENFORCED in labels:
            raise ApiError(
                "create", 403, 'pods "x" is forbidden: violates PodSecurity "restricted"'
            )
        if (
            labels.get(INJECTED)
            and item["metadata"].get("labels", {}).get("sidecar.istio.io/inject") != "false"
        ):
            item["spec"]["initContainers"] = [{"name": SIDECAR}]
        self.bound(namespace, container)
        return item

    def bound(self, namespace, container):
        limits = [i["spec"]["limits"] for i in self.list("v1", "LimitRange", namespace)]
        quotas = [i["spec"].get("hard") for i in self.list("v1", "ResourceQuota", namespace)]
        if any(limits):
            given = {"cpu": "1", "memory": "1Gi"}
            container.setdefault("resources", {"requests": given, "limits": given})
        if any(quotas) and "resources" not in container:
            raise ApiError("create", 403, "forbidden: failed quota: q: must specify requests.cpu")
        if any(quotas) and container["resources"]["requests"]["cpu"] == "10000":
            raise ApiError("create", 403, "forbidden: exceeded quota: q, requested: cpu=10k")


def measured(cluster):
    context = FakeContext(cluster)
    observation = namespaces.measure(context)
    return {name: (m.value, m.n) for name, m in observation.metrics.items()}


GREEN = {
    "missing": (0, 47),
    "privileged_admitted": (0, 13),
    "uninjected": (0, 7),
    "unbounded": (0, 7),
    "over_quota_admitted": (0, 7),
}


def test_a_platform_as_declared_is_green():
    assert measured(Server()) == GREEN


RED = [
    {"privileged_admitted": (1, 13), "missing": (1, 47)},
    {"uninjected": (1, 7), "missing": (1, 47)},
    {"over_quota_admitted": (1, 7), "missing": (1, 47)},
    {"unbounded": (1, 7), "missing": (1, 47)},
]


@pytest.mark.parametrize(("number", "red"), [*enumerate(RED)])
def test_each_fault_is_seen_and_taken_back(number, red):
    cluster = Server()
    fault = namespaces.GATE.faults[number]
    with fault.plant(FakeContext(cluster)):
        assert measured(cluster) == {**GREEN, **red}
    assert measured(cluster) == GREEN


def test_every_fault_has_its_row():
    assert len(RED) == len(namespaces.GATE.faults)


def test_a_namespace_that_is_not_there_is_missing_with_all_it_should_have():
    cluster = Server()
    cluster.delete("v1", "Namespace", VICTIM)
    for kind, name in (("ResourceQuota", "q"), ("LimitRange", "l")):
        cluster.delete("v1", kind, name, VICTIM)
    told = measured(cluster)
    assert told["missing"] == (5, 47)
    assert told["uninjected"] == (0, 6)


@pytest.mark.parametrize(
    "error", [ApiError("create", 500, "webhook is down"), ApiError("create", 403, "not allowed")]
)
def test_a_refusal_for_another_reason_is_no_verdict(error):
    cluster = Server()

    def refuse(item):
        raise error

    cluster.admit = refuse
    with pytest.raises(ProbeError):
        namespaces.measure(FakeContext(cluster))


def test_a_cluster_that_does_not_answer_is_no_verdict():
    cluster = Server()

    def silent(*_, **__):
        raise ApiError("list", 0, "connection refused")

    cluster.list = silent
    with pytest.raises(ProbeError, match="no answer"):
        namespaces.measure(FakeContext(cluster))


def test_nothing_is_created_for_real():
    cluster = Server()
    measured(cluster)
    assert not cluster.list("v1", "Pod")
