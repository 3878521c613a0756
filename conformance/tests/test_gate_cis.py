"""cis-benchmark on a control plane as kubeadm makes it: each kind of check can fail."""

import json
from dataclasses import replace

import pytest

from conformance.gate import ProbeError
from conformance.gates.intelligence import _cis, cis_benchmark
from conformance.gates.intelligence._cis import CHECKS, State
from conformance.probes.cluster import ApiError
from conformance.tests._memory_cluster import Context, MemoryCluster, named, values

REVIEW = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
CONFIGZ = "/api/v1/nodes/n1/proxy/configz"
FLAGS = {
    _cis.API: {
        "kubelet-client-certificate": "c",
        "kubelet-client-key": "k",
        "kubelet-certificate-authority": "ca",
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "profiling": "false",
        "audit-log-path": "/a",
        "audit-log-maxage": "30",
        "audit-log-maxbackup": "10",
        "audit-log-maxsize": "100",
        "service-account-key-file": "k",
        "etcd-certfile": "c",
        "etcd-keyfile": "k",
        "etcd-cafile": "ca",
        "etcd-servers": "https://127.0.0.1:2379",
        "tls-cert-file": "c",
        "tls-private-key-file": "k",
        "client-ca-file": "ca",
        "service-account-extend-token-expiration": "false",
    },
    _cis.MANAGER: {
        "profiling": "false",
        "use-service-account-credentials": "true",
        "service-account-private-key-file": "k",
        "root-ca-file": "ca",
        "bind-address": "127.0.0.1",
    },
    _cis.SCHEDULER: {"profiling": "false", "bind-address": "127.0.0.1"},
    _cis.ETCD: {
        "cert-file": "c",
        "key-file": "k",
        "client-cert-auth": "true",
        "peer-cert-file": "c",
        "peer-key-file": "k",
        "peer-client-cert-auth": "true",
        "listen-client-urls": "https://127.0.0.1:2379",
        "data-dir": "/var/lib/etcd",
    },
}
KUBELET = {
    "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": "ca"}},
    "authorization": {"mode": "Webhook"},
    "rotateCertificates": True,
}
FILES = {
    **{
        f"/etc/kubernetes/{name}.conf": [0o600, 0, 0]
        for name in ("kubelet", "admin", "scheduler", "controller-manager")
    },
    **{f"/etc/kubernetes/manifests/{name}.yaml": [0o600, 0, 0] for name in FLAGS},
    "/etc/kubernetes/pki/ca.crt": [0o644, 0, 0],
    "/etc/kubernetes/pki/etcd/ca.key": [0o600, 0, 0],
    "/var/lib/kubelet/config.yaml": [0o600, 0, 0],
    "/var/lib/etcd": [0o700, 999, 999],
}


def static_pod(component):
    flags = [f"--{name}={value}" for name, value in FLAGS[component].items()]
    mounts = [{"name": "data", "mountPath": "/var/lib/etcd"}]
    volumes = [{"name": "data", "hostPath": {"path": "/var/lib/etcd"}}]
    container = {"name": component, "command": [component, *flags], "volumeMounts": mounts}
    spec = {"containers": [container], "volumes": volumes, "nodeName": "n1"}
    return named(
        "Pod", f"{component}-n1", "kube-system", labels={"component": component}, spec=spec
    )


class Hardened(MemoryCluster):
    """A cluster that holds every check; a RoleBinding for everybody opens its namespace."""

    def __init__(self):
        super().__init__(named("Node", "n1"), *(static_pod(c) for c in FLAGS))
        self.answers[CONFIGZ] = {"kubeletconfig": KUBELET}
        self.answers[REVIEW] = lambda params: {"status": {"allowed": self._opened()}}
        self.files, self.ends, self.why = dict(FILES), "Succeeded", {}
        self.on_create = self._created

    def _opened(self):
        return any(kind == "RoleBinding" for _, kind, _, _ in self.objects)

    def _created(self, item):
        if item["kind"] != "Pod":
            return None
        log = json.dumps(self.files) if self.ends == "Succeeded" else "no such folder"
        self.answers[f"log kube-system/{item['metadata']['name']}"] = lambda params: log
        return {**item, "status": {"phase": self.ends, **self.why}}


def measured(cluster, plane="judged", **exceptions):
    told = {key.replace("_", "."): reason for key, reason in exceptions.items()}
    return cis_benchmark.measure(Context(cluster, control_plane=plane, exceptions=told))


def test_a_hardened_cluster_is_green():
    cluster = Hardened()
    seen = measured(cluster)
    assert (values(seen), seen.notes) == ({"failed": 0, "excepted": 0}, [])
    assert seen.metrics["failed"].n >= 60
    assert cluster.planted == []


@pytest.mark.parametrize(
    ("component", "flag", "value", "number"),
    [
        (_cis.API, "profiling", None, "1.2.15"),
        (_cis.API, "authorization-mode", "AlwaysAllow", "1.2.6"),
        (_cis.API, "audit-log-maxage", "7", "1.2.17"),
        (_cis.API, "token-auth-file", "/tokens", "1.2.2"),
        (_cis.API, "enable-admission-plugins", "NodeRestriction,AlwaysAdmit", "1.2.10"),
        (_cis.API, "disable-admission-plugins", "ServiceAccount", "1.2.12"),
        (_cis.MANAGER, "bind-address", "0.0.0.0", "1.3.7"),
        (_cis.SCHEDULER, "profiling", "true", "1.4.1"),
        (_cis.ETCD, "client-cert-auth", "false", "2.2"),
        (_cis.ETCD, "auto-tls", "true", "2.3"),
    ],
)
def test_a_flag_that_is_wrong_fails_its_check(monkeypatch, component, flag, value, number):
    changed = {k: v for k, v in {**FLAGS[component], flag: value}.items() if v is not None}
    monkeypatch.setitem(FLAGS, component, changed)
    seen = measured(Hardened())
    assert any(note.startswith(f"{number}: ") and flag in note for note in seen.notes)
    assert values(seen)["failed"] >= 1


@pytest.mark.parametrize(
    ("path", "told", "number"),
    [
        ("/etc/kubernetes/admin.conf", [0o644, 0, 0], "1.1.13"),
        ("/etc/kubernetes/manifests/etcd.yaml", [0o600, 1, 0], "1.1.8"),
        ("/etc/kubernetes/pki/etcd/ca.key", [0o640, 0, 0], "1.1.21"),
        ("/etc/kubernetes/pki/ca.crt", [0o644, 5, 5], "1.1.19"),
        ("/var/lib/kubelet/config.yaml", [0o644, 0, 0], "4.1.9"),
        ("/var/lib/etcd", [0o755, 999, 999], "1.1.11"),
        ("/var/lib/etcd", [0o700, 0, 0], "1.1.12"),
    ],
)
def test_a_file_that_is_open_fails_its_check(path, told, number):
    cluster = Hardened()
    cluster.files[path] = told
    seen = measured(cluster)
    assert [note.partition(":")[0] for note in seen.notes] == [number]


def test_a_kubelet_that_lets_anybody_in_fails_its_check():
    cluster = Hardened()
    cluster.answers[CONFIGZ] = {
        "kubeletconfig": {**KUBELET, "authentication": {}, "readOnlyPort": 1}
    }
    assert {n.partition(":")[0] for n in measured(cluster).notes} == {"4.2.1", "4.2.3", "4.2.4"}


@pytest.mark.parametrize(
    ("spec", "number"),
    [
        ({"containers": [{"securityContext": {"privileged": True}}]}, "5.2.2"),
        (
            {"containers": [], "initContainers": [{"securityContext": {"privileged": True}}]},
            "5.2.2",
        ),
        ({"containers": [], "hostPID": True}, "5.2.3"),
        ({"containers": [], "hostIPC": True}, "5.2.4"),
        ({"containers": [], "hostNetwork": True}, "5.2.5"),
    ],
)
def test_a_pod_of_a_layer_that_shares_the_node_fails_its_check(spec, number):
    cluster = Hardened()
    cluster.put(named("Pod", "p", "rag-llm", spec=spec))
    assert [n.partition(":")[0] for n in measured(cluster).notes] == [number]


def test_an_exception_needs_its_reason_to_be_true():
    cluster = Hardened()
    cluster.files["/var/lib/kubelet/config.yaml"] = [0o644, 0, 0]
    seen = measured(cluster, **{"4_1_9": "as kubeadm writes it"})
    assert values(seen) == {"failed": 0, "excepted": 1}
    assert seen.notes == ["4.1.9 excepted: as kubeadm writes it"]
    unneeded = measured(Hardened(), **{"4_1_9": "as kubeadm writes it"})
    assert values(unneeded)["failed"] == 1
    assert "not needed" in unneeded.notes[0]


def test_somebody_elses_control_plane_is_declared():
    cluster = Hardened()
    for component in FLAGS:
        cluster.objects.pop(("v1", "Pod", f"{component}-n1", "kube-system"))
    with pytest.raises(ProbeError, match="unreachable"):
        measured(cluster)
    seen = measured(cluster, plane="unreachable: the provider's")
    assert values(seen)["failed"] == 0
    assert 10 <= seen.metrics["failed"].n < 60
    assert "the provider's" in seen.notes[0]


def test_the_fault_turns_it_red_and_is_taken_back():
    cluster = Hardened()
    context = Context(cluster, control_plane="judged", exceptions={})
    with cis_benchmark.GATE.faults[0].plant(context):
        assert values(cis_benchmark.measure(context))["failed"] >= 1
    assert values(cis_benchmark.measure(context))["failed"] == 0


def test_what_cannot_be_looked_at_is_an_error():
    cluster = Hardened()
    cluster.ends = "Failed"
    with pytest.raises(ProbeError, match="no such folder"):
        measured(cluster)
    cluster.why = {"reason": "OutOfcpu", "message": "used: 2000, capacity: 2000"}
    with pytest.raises(ProbeError, match="OutOfcpu: used: 2000"):
        measured(cluster)
    cluster = Hardened()
    cluster.files.pop("/etc/kubernetes/kubelet.conf")
    with pytest.raises(ProbeError, match="not laid out"):
        measured(cluster)
    cluster = Hardened()
    cluster.answers[CONFIGZ] = "<html>"
    with pytest.raises(ProbeError, match="configz"):
        measured(cluster)
    cluster = Hardened()
    cluster.answers[REVIEW] = ApiError(REVIEW, 503, "down")
    with pytest.raises(ProbeError):
        measured(cluster)
    cluster = Hardened()
    cluster.objects.pop(("v1", "Node", "n1", ""))
    with pytest.raises(ProbeError, match="no node"):
        measured(cluster)


def test_a_check_that_finds_no_file_fails():
    cluster = Hardened()
    del cluster.files["/etc/kubernetes/scheduler.conf"]
    seen = measured(cluster)
    assert [note.partition(":")[0] for note in seen.notes] == ["1.1.15", "1.1.16"]
    assert values(seen)["failed"] == 2


def test_a_data_folder_that_was_not_found_fails():
    empty = State(MemoryCluster(), {}, {}, {}, {"n1": "/var/lib/etcd"})
    check = next(c for c in CHECKS if c.id == "1.1.11")
    assert [*check.judge(empty)] == ["n1:/var/lib/etcd was not found"]
    assert [*check.judge(replace(empty, data_dirs={}))] == []
