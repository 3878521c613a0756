"""What can be killed, one by one, and seen to come back: the pods of workloads."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from conformance.gate import ProbeError
from conformance.probes.cluster import Cluster, Object, Objects, probes_own
from conformance.probes.cluster.volumes import is_ready
from conformance.probes.cluster.workloads import APPS, selector

KINDS = ("Deployment", "StatefulSet", "DaemonSet")


@dataclass(frozen=True, slots=True)
class Victim:
    """A pod or a process that keeps a workload's or service's name up: how it is killed, and awaited."""

    name: str
    what: str
    kill: Callable[[], None]
    back: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Workload:
    """A Deployment, StatefulSet or DaemonSet."""

    cluster: Cluster
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def wanted(self) -> int:
        """How many pods it is to have now."""
        item = self._item()
        if self.kind == "DaemonSet":
            return int(item["status"].get("desiredNumberScheduled", 0))
        return int(item["spec"].get("replicas", 1))

    def pods(self) -> Objects:
        """Its pods that serve."""
        return [pod for pod in self._present() if is_ready(pod)]

    def victims(self) -> Iterator[Victim]:
        """Each pod that serves now."""
        for pod in self.pods():
            name = pod["metadata"]["name"]
            kill = partial(self.cluster.delete, "v1", "Pod", name, self.namespace, now=True)
            yield Victim(str(self), name, kill, partial(self._back, pod["metadata"]["uid"]))

    def _back(self, uid: str) -> bool:
        """Whether the pod is gone and as many as are wanted serve."""
        found, wanted = self._present(), self.wanted
        gone = all(pod["metadata"]["uid"] != uid for pod in found)
        return gone and 0 < wanted <= sum(map(is_ready, found))

    def _present(self) -> Objects:
        found = self.cluster.list("v1", "Pod", self.namespace, selector(self._item()))
        return sorted(found, key=lambda pod: str(pod["metadata"]["name"]))

    def _item(self) -> Object:
        return self.cluster.get(APPS, self.kind, self.name, self.namespace)


def workloads(cluster: Cluster, namespaces: Sequence[str]) -> list[Workload]:
    """Every workload of the namespaces, in their order; raises `ProbeError` for one without any."""
    found = [w for namespace in namespaces for w in _in(cluster, namespace)]
    if empty := set(namespaces) - {workload.namespace for workload in found}:
        raise ProbeError(f"{', '.join(sorted(empty))}: nothing runs there")
    return found


def _in(cluster: Cluster, namespace: str) -> list[Workload]:
    found = [
        Workload(cluster, kind, namespace, item["metadata"]["name"])
        for kind in KINDS
        for item in cluster.list(APPS, kind, namespace)
        if not probes_own(item)
    ]
    return sorted(found, key=str)


def workload(cluster: Cluster, where: str) -> Workload:
    """The workload `namespace/name`; raises `ProbeError` when it is not there."""
    namespace, _, name = where.partition("/")
    for kind in KINDS:
        if cluster.find(APPS, kind, name, namespace):
            return Workload(cluster, kind, namespace, name)
    raise ProbeError(f"{where}: no {', '.join(KINDS)} of this name")
