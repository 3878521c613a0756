"""What probes plant and change in a cluster, and that all of it is taken back."""

import os
import socket
import subprocess
import sys
import time

import pytest

from conformance.gate import ProbeError
from conformance.probes.cluster import (
    FAULT,
    LABEL,
    ApiError,
    Dial,
    Request,
    ask,
    changed,
    clear,
    dial,
    planted,
    probe_pod,
    running,
    sweep,
    unique,
)
from conformance.targets.kube.changing import CHANGED, inverse
from conformance.targets.kube.planting import OWNER
from conformance.tests._fake_cluster import FakeCluster, FakeContext, FakeEvidence, made

POD = ("v1", "Pod", "p", "here")


def pod(**labels):
    return probe_pod("p", "here", "probe:1", "serve", ["8080"], labels=labels)


def test_what_is_planted_is_labelled_and_gone_after_the_block():
    cluster = FakeCluster()
    with planted(cluster, made("Namespace", "here"), pod()) as (_, planted_pod):
        assert planted_pod["metadata"]["labels"][LABEL] == cluster.run_id
        assert cluster.get(*POD)["metadata"]["annotations"][OWNER].split("/")[1] == str(os.getpid())
    assert not cluster.objects


def test_a_fault_keeps_its_own_label():
    cluster = FakeCluster()
    with planted(cluster, pod(**{LABEL: FAULT})) as (item,):
        assert item["metadata"]["labels"][LABEL] == FAULT


def test_a_kind_that_nobody_would_sweep_is_not_planted():
    cluster = FakeCluster()
    with pytest.raises(ValueError, match="KINDS"), planted(cluster, made("Node", "n")):
        pass


@pytest.mark.parametrize("error", [ProbeError("x"), KeyboardInterrupt()])
def test_a_block_that_fails_leaves_nothing(error):
    cluster = FakeCluster()
    with pytest.raises(type(error)), planted(cluster, pod()):
        raise error
    assert not cluster.objects


def test_what_could_not_be_made_takes_the_rest_with_it():
    cluster = FakeCluster()

    def admit(item):
        if item["kind"] == "Service":
            raise ApiError("create", 403, "no")
        return item

    cluster.admit = admit
    with pytest.raises(ApiError), planted(cluster, pod(), made("Service", "s", "here")):
        pass
    assert not cluster.objects


def test_a_new_namespace_gets_its_account_a_little_later():
    cluster, tries = FakeCluster(), []

    def admit(item):
        tries.append(item)
        if len(tries) < 3:
            raise ApiError("create", 403, "error looking up service account x/default")
        return item

    cluster.admit = admit
    with planted(cluster, pod()):
        assert cluster.get(*POD)


def test_what_cannot_be_deleted_is_told_and_the_rest_is_deleted():
    cluster = FakeCluster()
    delete = cluster.delete

    def refuse(api_version, kind, *rest, **options):
        if kind == "Service":
            raise ApiError("delete", 500, "etcd is down")
        delete(api_version, kind, *rest, **options)

    cluster.delete = refuse
    block = planted(cluster, pod(), made("Service", "s", "here"))
    with pytest.raises(ProbeError, match="left behind: .*etcd is down"), block:
        pass
    assert [key[1] for key in cluster.objects] == ["Service"]


def test_evidence_is_kept_before_the_clean_up():
    cluster = FakeCluster(
        made(
            "Event",
            "e",
            "here",
            involvedObject={"kind": "Pod", "name": "p"},
            type="Warning",
            reason="Failed",
            message="no such image",
        )
    )
    cluster.log = lambda namespace, name: "its last words"
    evidence = FakeEvidence()
    with pytest.raises(ProbeError), planted(cluster, pod(), evidence=evidence):
        raise ProbeError("it does not start")
    (text,) = evidence.files.values()
    assert "no such image" in text and "its last words" in text


def test_a_change_is_taken_back_whole():
    before = made(
        "ResourceQuota",
        "q",
        "here",
        metadata={"labels": {"own": "1"}, "annotations": {"kept": "1"}},
        spec={"hard": {"pods": "5", "cpu": "2"}},
    )
    cluster = FakeCluster(before)
    with changed(cluster, "v1", "ResourceQuota", "q", {"spec": {"hard": {"pods": None}}}, "here"):
        now = cluster.get("v1", "ResourceQuota", "q", "here")
        assert now["spec"]["hard"] == {"cpu": "2"}
        assert now["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/reconcile"] == "disabled"
    after = cluster.get("v1", "ResourceQuota", "q", "here")
    assert after["spec"] == {"hard": {"pods": "5", "cpu": "2"}}
    assert after["metadata"]["labels"] == {"own": "1"}
    assert after["metadata"]["annotations"] == {"kept": "1"}


@pytest.mark.parametrize(
    ("patch", "before", "undo"),
    [
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": 1}, {}, {"a": None}),
        ({"a": {"b": None}}, {"a": {"b": 3, "c": 4}}, {"a": {"b": 3}}),
        ({"a": None}, {"a": {"b": 3}}, {"a": {"b": 3}}),
        ({"a": {"b": 1}}, {}, {"a": {"b": None}}),
        ({"a": []}, {"a": [{"x": 1}]}, {"a": [{"x": 1}]}),
    ],
)
def test_the_inverse_of_a_patch(patch, before, undo):
    assert inverse(patch, before) == undo


def owned(host, pid, planted_at):
    """A pod of some run."""
    annotations = {OWNER: f"{host}/{pid}/{int(planted_at)}"}
    return made("Pod", "p", "here", metadata={"labels": {LABEL: "x"}, "annotations": annotations})


def ended():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


HERE, NOW = socket.gethostname(), time.time()


@pytest.mark.parametrize(
    ("item", "swept"),
    [
        (owned(HERE, ended(), NOW), True),
        (owned(HERE, os.getppid(), NOW), False),
        (owned(HERE, os.getppid(), NOW - 1000), True),
        (owned("elsewhere", ended(), NOW), False),
        (owned("elsewhere", 1, NOW - 1000), True),
        (made("Pod", "p", "here", metadata={"labels": {LABEL: "x"}}), True),
        (owned(HERE, os.getpid(), NOW), False),
        (made("Pod", "p", "here"), False),
    ],
)
def test_only_what_a_gone_run_planted_is_swept(item, swept):
    cluster = FakeCluster(item)
    assert bool(sweep(cluster)) is swept
    assert bool(cluster.objects) is not swept


def test_a_change_of_a_killed_run_is_undone_and_the_object_kept():
    cluster = FakeCluster(made("Namespace", "rag-llm", metadata={"labels": {"guard": "on"}}))
    block = changed(
        cluster, "v1", "Namespace", "rag-llm", {"metadata": {"labels": {"guard": None}}}
    )
    block.__enter__()
    item = cluster.objects["v1", "Namespace", "rag-llm", ""]
    item["metadata"]["annotations"][OWNER] = f"{HERE}/{ended()}/{int(NOW)}"
    assert CHANGED in item["metadata"]["labels"]
    assert sweep(cluster) == ["Namespace rag-llm (changed)"]
    assert item["metadata"]["labels"] == {"guard": "on"}
    block.__exit__(None, None, None)
    assert item["metadata"]["labels"] == {"guard": "on"}


def test_the_end_of_a_run_takes_its_own_and_waits_until_it_is_gone(monkeypatch):
    monkeypatch.setattr("conformance.targets.kube.sweeping.GONE_SECONDS", 0.3)
    cluster = FakeCluster(owned(HERE, os.getpid(), NOW))
    clear(cluster)
    assert not cluster.objects
    cluster = FakeCluster(owned(HERE, os.getpid(), NOW))
    cluster.delete = lambda *_, **__: None
    with pytest.raises(ProbeError, match="still there"):
        clear(cluster)


def test_a_pod_is_restricted_small_never_ready_and_ends_by_itself():
    spec = pod()["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert spec["readinessGates"] and spec["activeDeadlineSeconds"] <= 900
    assert {"requests", "limits"} <= set(container["resources"])
    assert not spec["automountServiceAccountToken"]


BACK_OFF = {
    "reason": "ImagePullBackOff",
    "message": 'Back-off pulling image "x": ErrImagePull: pull QPS exceeded',
}


def status(phase="Running", **container):
    own = {"name": "probe", "ready": True, "restartCount": 0, "state": {"running": {}}, **container}
    return {"phase": phase, "podIP": "10.0.0.1", "containerStatuses": [own]}


def test_running_pods_are_returned_as_they_are():
    item = {**pod(), "status": status()}
    assert running(FakeCluster(item), [pod()])[0]["status"]["podIP"] == "10.0.0.1"


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (
            status("Pending", ready=False, state={"waiting": {"reason": "ErrImagePull"}}),
            "ErrImagePull",
        ),
        (
            status("Pending", ready=False, state={"waiting": BACK_OFF}),
            "not within",  # the kubelet's own limit passes
        ),
        (status("Failed", ready=False), "has ended"),
        (status("Pending", ready=False, state={"waiting": {"reason": "x"}}), "not within"),
    ],
)
def test_a_pod_that_does_not_run_is_a_probe_error_with_its_reason(told, message):
    cluster = FakeCluster({**pod(), "status": told})
    with pytest.raises(ProbeError, match=message):
        running(cluster, [pod()], seconds=0.3)


def test_a_pod_that_is_gone_is_a_probe_error():
    with pytest.raises(ProbeError, match="here/p is gone"):
        running(FakeCluster(), [pod()], seconds=0.3)


def test_a_sidecar_that_is_not_ready_is_waited_for():
    told = status()
    told["initContainerStatuses"] = [
        {"name": "istio-proxy", "ready": False, "state": {"running": {}}}
    ]
    with pytest.raises(ProbeError, match="istio-proxy running"):
        running(FakeCluster({**pod(), "status": told}), [pod()], seconds=0.3)


def test_dials_need_an_answer_each():
    cluster = FakeCluster()
    answer = {"host": "a", "port": 1, "what": "tcp", "connected": True}
    cluster.commands = lambda namespace, name, order: [answer] * len(order["dials"])
    assert dial(cluster, pod(), [Dial("a", 1)])[0].connected
    cluster.commands = lambda *_: []
    with pytest.raises(ProbeError, match="0 answers to 1 dials"):
        dial(cluster, pod(), [Dial("a", 1)])
    assert dial(cluster, pod(), []) == []


def test_a_script_that_prints_no_json_is_a_probe_error():
    cluster = FakeCluster()
    cluster.exec = lambda *_, **__: "Traceback"
    with pytest.raises(ProbeError, match="no JSON"):
        dial(cluster, pod(), [Dial("a", 1)])


def test_a_server_that_is_not_reached_is_a_probe_error():
    cluster = FakeCluster()
    cluster.commands = lambda *_: [{"status": 0, "body": "connection refused"}]
    with pytest.raises(ProbeError, match="connection refused"):
        ask(cluster, pod(), [Request("GET", "https://x")], "ca")


def test_a_request_and_its_reply_show_no_secret():
    request = Request("GET", "https://x", headers={"X-Vault-Token": "s.secret"})
    assert "s.secret" not in repr(request)


def test_names_are_of_one_run():
    assert unique(FakeCluster(), "x") != unique(FakeCluster(), "x")


def test_a_wait_that_never_ends_says_for_what():
    with pytest.raises(ProbeError, match=r"the moon: not within 0\.1 s"):
        FakeContext(FakeCluster()).target.cluster.wait(lambda: False, 0.1, "the moon")
