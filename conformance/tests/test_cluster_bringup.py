"""From a built node to a cluster that Flux keeps: order, resumption, and what is said when it fails."""

import base64
import os
from pathlib import Path

import pytest
import yaml

from conformance.cluster.base import ClusterError
from conformance.cluster.node import (
    control_plane,
    flux,
    oci,
    provider,
)
from conformance.cluster.node.config import State
from conformance.cluster.node.namespace import Namespace
from conformance.cluster.node.provider import NodeCluster
from conformance.tests._cluster import Commands, plain_steps


@pytest.fixture
def lines(tmp_path):
    return plain_steps(tmp_path)


@pytest.fixture
def lab(tmp_path, monkeypatch, lines):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return NodeCluster(tmp_path / "state/lab", lines)


def test_two_commands_do_not_work_on_one_lab(lab):
    lab.state.root.mkdir(parents=True)
    with lab._alone(), pytest.raises(ClusterError, match="another command"):
        lab.delete()


def test_the_node_takes_root(lab, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ClusterError, match="takes root"):
        lab.create()


def test_removing_a_lab_that_is_not_there_is_no_error_for_anybody(lab, monkeypatch):
    lab.stop()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    lab.delete()


def test_bringing_up_builds_boots_and_converges_in_this_order(lab, monkeypatch):
    done = []
    for part in ("_build", "_boot", "_converge"):
        monkeypatch.setattr(NodeCluster, part, lambda self, part=part: done.append(part))
    lab.create()
    assert done == ["_build", "_boot", "_converge"]


def test_the_encryption_key_is_made_once_and_for_root_alone(tmp_path):
    state = State(tmp_path / "lab")
    control_plane._encryption(state)
    path = state.tree / "etc/kubernetes/encryption/config.yaml"
    first = path.read_text()
    control_plane._encryption(state)
    assert path.read_text() == first
    assert path.stat().st_mode & 0o777 == 0o600
    (secrets_first, *_) = yaml.safe_load(first)["resources"][0]["providers"]
    assert len(base64.b64decode(secrets_first["secretbox"]["keys"][0]["secret"])) == 32


@pytest.fixture
def plane(lab, monkeypatch):
    commands = Commands()
    monkeypatch.setattr(control_plane, "run", commands)
    monkeypatch.setattr(Namespace, "enter", lambda self, command, **o: commands(command))
    (lab.state.tree / "etc/kubernetes").mkdir(parents=True)
    (lab.state.tree / "etc/kubernetes/admin.conf").write_text("admin")
    return commands


def test_the_control_plane_is_made_in_kubeadms_order_and_once(lab, plane):
    control_plane.create(lab.state, lab.node, lambda text: None)
    phases = [call.split(" --config")[0] for call in plane.calls if "init phase" in call]
    assert phases[0] == "kubeadm init phase certs all"
    assert phases.index("kubeadm init phase kubelet-start") < phases.index(
        "kubeadm init phase mark-control-plane"
    )
    assert lab.kubeconfig.read_text() == "admin"
    plane.calls.clear()
    control_plane.create(lab.state, lab.node, lambda text: None)
    assert "init phase" not in plane
    assert "/readyz" in plane


def test_an_api_server_that_stays_away_is_an_error_that_says_where_to_look(lab, plane, monkeypatch):
    plane.answers["/readyz"] = ClusterError("refused")
    monkeypatch.setattr(control_plane, "_API_SECONDS", 0)
    with pytest.raises(ClusterError, match=r"not ready after 0 s.*refused.*kubelet/current"):
        control_plane.create(lab.state, lab.node, lambda text: None)


def test_coredns_is_deployed_once(lab, plane):
    control_plane.coredns(lab.state, lab.node)
    assert "addon coredns" in plane
    assert "--replicas=1" in plane
    plane.calls.clear()
    plane.answers["get deployment"] = "deployment.apps/coredns\n"
    control_plane.coredns(lab.state, lab.node)
    assert "addon coredns" not in plane


def test_flux_is_installed_pointed_and_asked_as_its_own_controller(lab, plane, monkeypatch):
    bundle = {"manifests.yaml": b"kind: Namespace"}
    monkeypatch.setattr(flux.artifacts, "bundle", lambda entry: bundle)
    monkeypatch.setattr(flux.artifacts, "kustomize", lambda folder: f"from {folder.name}")
    flux.install(lab.state)
    flux.point(lab.state)
    flux.reconcile(lab.state)
    applied = [call for call in plane.calls if " apply " in call]
    assert len(applied) == 2
    assert all("--field-manager=kustomize-controller" in call for call in applied)
    assert "reconcile.fluxcd.io/requestedAt=" in plane


def test_bringing_up_goes_through_every_step(lab, plane, monkeypatch):
    seen = []

    class Reached:
        def __init__(self, kubeconfig):
            assert kubeconfig == lab.kubeconfig

        def wait(self, revision, seconds, note):
            seen.append("wait")

    for module, name, answer in [
        (provider.debian, "install_tools", []),
        (provider.debian, "tree", Path("/tree.tar")),
        (provider.wheels, "folder", Path("/wheels")),
        (provider.programs, "build", None),
        (provider.tree, "tools", None),
        (provider.tree, "prepare", True),
        (provider.images, "pack_all", []),
        (provider.ours, "pack_all", []),
        (provider.models, "store", Path("/models")),
        (provider.models, "lay", None),
        (provider.artifacts, "make_all", []),
        (provider.flux, "install", None),
        (provider.flux, "publish", "main@sha1:a"),
        (provider.flux, "point", None),
        (provider.flux, "reconcile", None),
    ]:

        def step(*arguments, name=name, answer=answer):
            seen.append(name)
            return answer

        monkeypatch.setattr(module, name, step)
    monkeypatch.setattr(provider, "Flux", Reached)
    monkeypatch.setattr(Namespace, "init", lambda self: 1)  # it runs: its services read anew
    for name in ("start", "restart_services", "forget"):
        monkeypatch.setattr(Namespace, name, lambda self, *a, name=name: seen.append(name))
    monkeypatch.setattr(provider.Registry, "publish", lambda self, only=None: seen.append("serve"))
    lab.create()
    assert seen.index("build") < seen.index("prepare") < seen.index("start") < seen.index("serve")
    assert seen.index("restart_services") < seen.index("serve") < seen.index("install")
    assert seen[-1] == "wait"
    assert "rollout status --timeout=120s daemonset/kube-router" in plane
    assert lab.sync() == "main@sha1:a"
    assert seen[-6:] == ["pack_all", "serve", "forget", "publish", "reconcile", "wait"]
    monkeypatch.setattr(provider.images, "pack", lambda r: oci.image(r, []))
    lab.load_image("ghcr.io/x/y:1")
    assert seen[-2:] == ["serve", "forget"]
