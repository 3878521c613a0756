"""Services of the lab's node: killed by their supervisor, back when another process does their work."""

from types import SimpleNamespace

import pytest

from conformance.cluster.base import ClusterError
from conformance.gate import ProbeError
from conformance.probes import node
from conformance.probes.node import Service
from conformance.targets.layers import doors
from conformance.tests._memory_cluster import MemoryCluster, named


class Supervised:
    """Stands for the node: `sv` as runit has it."""

    def __init__(self):
        self.pid, self.calls = 7, []

    def enter(self, command):
        self.calls.append(command)
        if command[1] == "kill":
            self.pid += 1
        if not self.pid:
            raise ClusterError("fail: /etc/lab/services/kubelet: runsv not running")
        log = "run: log: (pid 3) 10s"
        return f"run: {command[2]}: (pid {self.pid}) 10s; {log}\n"


def service(name="kubelet", *, log="a line"):
    pod = named("Pod", "kube-apiserver-n", "kube-system", labels={"component": "kube-apiserver"})
    cluster = MemoryCluster(pod | {"spec": {"containers": [{"name": "kube-apiserver"}]}})
    cluster.answers["log kube-system/kube-apiserver-n"] = log
    return Service(cluster, Supervised(), name)


def test_a_service_is_back_when_another_process_answers():
    made = service()
    (victim,) = made.victims()
    assert (victim.name, victim.what, made.wanted) == ("node/kubelet", "process 7", 1)
    assert not victim.back()
    victim.kill()
    assert ["sv", "kill", "/etc/lab/services/kubelet"] in made.node.calls
    assert victim.back()


def test_a_service_that_runs_but_knows_no_pod_is_not_back():
    made = service(log=ProbeError("no answer"))
    (victim,) = made.victims()
    victim.kill()
    assert not victim.back()


def test_a_service_that_does_not_run_is_no_victim_and_not_back():
    made = service()
    (victim,) = made.victims()
    made.node.pid = 0
    assert not victim.back()
    assert [*made.victims()] == []


def test_the_registry_is_back_when_it_answers(monkeypatch):
    made = service("registry")
    (victim,) = made.victims()
    victim.kill()
    told = []
    monkeypatch.setattr(node, "network", lambda: SimpleNamespace(registry_url="http://127.0.0.1:1"))
    assert not victim.back()
    answer = SimpleNamespace(is_success=True)
    monkeypatch.setattr(node.httpx, "get", lambda url, **_: told.append(url) or answer)
    assert victim.back()
    assert told == ["http://127.0.0.1:1/v2/"]


def test_a_cluster_elsewhere_has_no_node_here(tmp_path):
    cluster = MemoryCluster()
    cluster.kubeconfig = tmp_path / "kubeconfig"
    with pytest.raises(ProbeError, match="no node of this machine"):
        Service.of(cluster, "kubelet")


def test_the_gateways_port_on_a_node_is_found_where_it_answers(endpoint):
    port = int(endpoint.rpartition(":")[2])
    told = [{"port": 80, "targetPort": 8080, "nodePort": port}, {"port": 15021, "nodePort": 1}]
    addresses = [
        {"type": "Hostname", "address": "n"},
        {"type": "InternalIP", "address": "127.0.0.1"},
    ]
    cluster = MemoryCluster(
        named("Service", "gateway", "rag-gateway", spec={"ports": told}),
        named("Node", "n", status={"addresses": addresses}),
    )
    assert doors.outside(cluster) == endpoint
    told[0]["nodePort"] = 1  # nobody listens
    cluster.put(named("Service", "gateway", "rag-gateway", spec={"ports": told}))
    assert doors.outside(cluster) == ""
