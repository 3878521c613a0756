"""The control plane: kubeadm's phases, encryption at rest, and the administrator's kubeconfig."""

import base64
import hashlib
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from conformance.cluster.base import ClusterError
from conformance.cluster.node.commands import run
from conformance.cluster.node.config import DATA, State
from conformance.cluster.node.files import feed, under
from conformance.cluster.node.namespace import Namespace
from rag_common.files import write_atomic

_CONFIG = "/etc/kubernetes/kubeadm.yaml"
_FILES = ("certs all", "kubeconfig all", "etcd local", "control-plane all", "kubelet-start")
_OBJECTS = ("upload-config all", "mark-control-plane", "bootstrap-token", "addon kube-proxy")
_API_SECONDS = 180.0
_KEY_BYTES = 32


def create(state: State, node: Namespace, note: Callable[[str], None]) -> None:
    """Make the control plane, or wait for the one that is there; raises `ClusterError`."""
    done = state.tree / "etc/kubernetes/.done"
    digest = _digest()
    fresh = not done.exists() or done.read_text() != digest
    if fresh:
        _encryption(state)
        _phases(node, state, _FILES, note)
    note("waiting for the API server")
    _kubeconfig(state)
    _await_api(state)
    if fresh:
        _phases(node, state, _OBJECTS, note)
        write_atomic(done, digest.encode())


def _digest() -> str:
    total = hashlib.sha256((DATA / "kubeadm.yaml").read_bytes())
    feed(total, DATA, under(DATA / "rootfs/etc/lab/patches"))
    return total.hexdigest()


def _phases(
    node: Namespace, state: State, phases: tuple[str, ...], note: Callable[[str], None]
) -> None:
    for phase in phases:
        note(f"kubeadm {phase}")
        command = ["kubeadm", "init", "phase", *phase.split(), "--config", _CONFIG]
        node.enter(command, log=state.log)


def _encryption(state: State) -> None:
    """Secrets are encrypted in etcd, with a key that is on the node and nowhere else."""
    path = state.tree / "etc/kubernetes/encryption/config.yaml"
    if path.exists():
        return
    key = base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()
    config = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [
            {
                "resources": ["secrets"],
                "providers": [
                    {"secretbox": {"keys": [{"name": "key1", "secret": key}]}},
                    {"identity": {}},
                ],
            }
        ],
    }
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(path, yaml.safe_dump(config).encode(), mode=0o600)


def _kubeconfig(state: State) -> None:
    write_atomic(
        state.kubeconfig, (state.tree / "etc/kubernetes/admin.conf").read_bytes(), mode=0o600
    )


def kubectl(
    state: State, *words: str | Path, stdin: str | None = None, timeout: float = 120
) -> str:
    """What `kubectl` says, as administrator of the lab; raises `ClusterError`."""
    command = [state.root / "bin" / "kubectl", "--kubeconfig", state.kubeconfig, *words]
    return run(command, stdin=stdin, timeout=timeout, log=state.log)


def _await_api(state: State) -> None:
    deadline = time.monotonic() + _API_SECONDS
    while True:
        try:
            kubectl(state, "get", "--raw", "/readyz", timeout=10)
            return
        except ClusterError as error:
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"the API server is not ready after {_API_SECONDS:.0f} s ({error}); "
                    f"see {state.tree}/var/log/kubelet/current and var/log/pods"
                ) from error
            time.sleep(1)


def coredns(state: State, node: Namespace) -> None:
    """CoreDNS as kubeadm deploys it, once: one replica, with the Corefile that is already there."""
    found = kubectl(state, "get", "deployment", "-n", "kube-system", "-o", "name")
    if "deployment.apps/coredns" not in found.split():
        _phases(node, state, ("addon coredns",), lambda text: None)
        kubectl(state, "scale", "-n", "kube-system", "deployment/coredns", "--replicas=1")
