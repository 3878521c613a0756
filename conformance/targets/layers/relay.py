"""An application of the suite where a program of the layers is called: a pod stands there for it.

The pod has the program's account and label, so mesh and network policies treat it alike. It hands
every connection to one of the suite's, which wait in it by port-forward.
"""

import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from conformance.children import free_url
from conformance.gate import ProbeError
from conformance.targets.kube.changing import changed
from conformance.targets.kube.client import Cluster
from conformance.targets.kube.errors import Object
from conformance.targets.kube.planting import FAULT, LABEL, planted, unique
from conformance.targets.kube.pods import probe_pod, running
from conformance.targets.layers.places import ACCOUNT, Place, behind
from conformance.targets.processes import serving

IMAGE = "docker.io/library/python:3.11-slim-bookworm"  # anything with python3; the SLO files' probe_image
STAND_IN = "rag-blueprint.dev/stand-in"
_WAITING_PORT = 15999
_IDLE = 8  # connections that wait in the pod
_HELLO, _BEGIN = b"+", b"!"
_LIFE_SECONDS = 7200
_SERVED_SECONDS = 30.0
_AGAIN_SECONDS = 0.2


@contextmanager
def relayed(
    cluster: Cluster, at: Place, application: Any, image: str, *, instead: bool
) -> Iterator[str]:
    """Inside the block an ASGI `application` answers in the cluster; the URL of its Service.

    `instead` of the program itself at its own Service, else at a Service of its own.
    """
    name, url = unique(cluster, at.account), free_url()
    labels = {ACCOUNT: at.account, STAND_IN: name, LABEL: FAULT}
    pod = probe_pod(
        name,
        at.namespace,
        image,
        "relay",
        [str(at.port), str(_WAITING_PORT)],
        labels=labels,
        account=at.account,
        mesh=True,
        ready=True,
    )
    pod["spec"]["activeDeadlineSeconds"] = _LIFE_SECONDS
    service = at.service if instead else name
    if instead:
        pod["spec"]["containers"][0]["ports"] = _named(cluster, at)
    items = [pod] if instead else [pod, _service(name, at)]
    with serving(application, url), _leading(cluster, at, name, instead), planted(cluster, *items):
        running(cluster, [pod])
        with _Waiting(cluster, at.namespace, name, url.rpartition(":")[2]):
            leads = lambda: behind(cluster, at, service) == [name]  # noqa: E731
            cluster.wait(leads, _SERVED_SECONDS, f"{at.namespace}/{service} leads elsewhere")
            yield f"http://{service}.{at.namespace}"


def _service(name: str, at: Place) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": at.namespace, "labels": {LABEL: FAULT}},
        "spec": {
            "selector": {STAND_IN: name},
            "ports": [{"name": "http", "port": 80, "targetPort": at.port}],
        },
    }


def _named(cluster: Cluster, at: Place) -> list[Object]:
    """The ports that the program's Service calls by name: without them it leads to no pod."""
    ports = cluster.get("v1", "Service", at.service, at.namespace)["spec"].get("ports") or []
    names = {port["targetPort"] for port in ports if isinstance(port.get("targetPort"), str)}
    return [{"name": name, "containerPort": at.port} for name in sorted(names)]


@contextmanager
def _leading(cluster: Cluster, at: Place, name: str, instead: bool) -> Iterator[None]:
    """Inside the block the program's Service leads to the stand-in and nowhere else."""
    if not instead:
        yield
        return
    selector = cluster.get("v1", "Service", at.service, at.namespace)["spec"]["selector"]
    other = {**dict.fromkeys(selector), STAND_IN: name}
    with changed(cluster, "v1", "Service", at.service, {"spec": {"selector": other}}, at.namespace):
        yield


class _Waiting:
    """Connections into the relay's pod, kept at `_IDLE` that wait; each ends at a port of this machine."""

    def __init__(self, cluster: Cluster, namespace: str, pod: str, port: str) -> None:
        self.cluster, self.namespace, self.pod, self.port = cluster, namespace, pod, int(port)
        self.begun, self.ended = threading.Event(), threading.Event()

    def __enter__(self) -> None:
        for _ in range(_IDLE):
            self._one_more()
        if not self.begun.wait(_SERVED_SECONDS):
            self.ended.set()
            raise ProbeError(f"{self.namespace}/{self.pod}: its relay does not answer")

    def __exit__(self, *_: object) -> None:
        self.ended.set()

    def _one_more(self) -> None:
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        while not self.ended.is_set():
            with suppress(ProbeError, OSError):
                if self._used():
                    return
            time.sleep(_AGAIN_SECONDS)

    def _used(self) -> bool:
        """Wait for a connection and carry it; False when the tunnel ended before there was one."""
        tunnel = self.cluster.tunnel(self.namespace, self.pod, _WAITING_PORT)
        far, near = socket.socketpair()
        threading.Thread(target=_carried, args=(tunnel, far), daemon=True).start()
        with near:
            if near.recv(1) != _HELLO:
                return False
            self.begun.set()
            if near.recv(1) != _BEGIN:
                return False
            self._one_more()
            near.sendall(_BEGIN)
            with socket.create_connection(("127.0.0.1", self.port)) as application:
                _both_ways(near, application)
        return True


def _carried(tunnel: Any, far: socket.socket) -> None:
    try:
        with far, suppress(ProbeError):
            tunnel.carry(far)
    finally:
        tunnel.close()


def _both_ways(one: socket.socket, other: socket.socket) -> None:
    ends = {one: other, other: one}
    while True:
        for end in select.select([*ends], [], [])[0]:
            if not (data := end.recv(1 << 16)):
                return
            ends[end].sendall(data)
