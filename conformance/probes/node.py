"""The services of the lab's own node: only the machine on which it runs can kill them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import httpx

from conformance.cluster.base import ClusterError
from conformance.cluster.node.config import State, network
from conformance.cluster.node.namespace import Namespace
from conformance.gate import ProbeError
from conformance.probes.cluster import Cluster, containers
from conformance.probes.cluster.killing import Victim

REGISTRY = "registry"
_FOLDER = "/etc/lab/services"
_RUNS = re.compile(r"run: \S+: \(pid (\d+)\)")
_ANY_POD = ("kube-system", "component=kube-apiserver")


@dataclass(frozen=True, slots=True)
class Service:
    """A service of the node, which its supervisor starts again."""

    cluster: Cluster
    node: Namespace
    name: str

    @classmethod
    def of(cls, cluster: Cluster, name: str) -> "Service":
        """The service of the node whose state lies beside the kubeconfig; raises `ProbeError`."""
        node = Namespace(State(cluster.kubeconfig.resolve().parent))
        if node.init() is None:
            raise ProbeError(
                f"node_services: {cluster.kubeconfig} is of no node of this machine; "
                "the SLO file may say 'unreachable: <reason>'"
            )
        return cls(cluster, node, name)

    def __str__(self) -> str:
        return f"node/{self.name}"

    @property
    def wanted(self) -> int:
        """One process."""
        return 1

    def victims(self) -> Iterator[Victim]:
        """Its process, if it runs."""
        if pid := self._pid():
            yield Victim(str(self), f"process {pid}", self._kill, partial(self._back, pid))

    def _kill(self) -> None:
        self._sv("kill")

    def _back(self, pid: int) -> bool:
        """Whether another process runs in its place and does what it is there for."""
        if self._pid() in (0, pid):
            return False
        return self._registry_serves() if self.name == REGISTRY else self._node_knows_its_pods()

    def _pid(self) -> int:
        try:
            found = _RUNS.match(self._sv("status"))
        except ProbeError:  # `sv` fails for a service that is down
            return 0
        return int(found[1]) if found else 0

    def _sv(self, verb: str) -> str:
        try:
            return self.node.enter(["sv", verb, f"{_FOLDER}/{self.name}"])
        except ClusterError as error:
            raise ProbeError(f"{self}: {error}") from error

    def _node_knows_its_pods(self) -> bool:
        """Whether a log comes back: the kubelet reads it where containerd says that it lies."""
        try:
            pod = self.cluster.list("v1", "Pod", *_ANY_POD)[0]
            where = (pod["metadata"]["namespace"], pod["metadata"]["name"], containers(pod)[0])
            self.cluster.logs(*where, lines=1)
        except ProbeError:
            return False
        return True

    def _registry_serves(self) -> bool:
        try:
            return httpx.get(f"{network().registry_url}/v2/", trust_env=False).is_success
        except httpx.HTTPError:
            return False
