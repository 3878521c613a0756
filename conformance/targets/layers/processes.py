"""The programs of the layers as a gate's faults handle them: down, killed, changed, replaced."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from conformance.gate import ProbeError
from conformance.targets.kube.changing import changed
from conformance.targets.kube.client import Cluster
from conformance.targets.kube.errors import Object
from conformance.targets.layers import workloads
from conformance.targets.layers.places import PLACES, behind, forward, place, pods
from conformance.targets.layers.relay import IMAGE, relayed
from conformance.targets.stopping import Stopping

READY_SECONDS, STOP_SECONDS, KILL_SECONDS = 300.0, 120.0, 60.0
MESH_SECONDS = 2.0  # the proxies learn of new pods, and of gone ones, a moment later
POLICY_SECONDS = 6.0  # and the network's policy agent of a pod that stands in, later still
# The first process of a container is deaf to SIGKILL from within; the kernel sends it one when its
# limit of processor time is over, which it is after the second of its start.
_KILL = "import resource; resource.prlimit(1, resource.RLIMIT_CPU, (1, 1))"


class ClusterProcesses(Stopping):
    """Implements `targets.base.Processes`."""

    def __init__(self, cluster: Cluster, image: str = IMAGE) -> None:
        self.cluster, self.image = cluster, image
        self._down: dict[str, ExitStack] = {}
        self._ran: set[str] = set()  # what was not at zero when it was stopped

    def names(self) -> list[str]:
        """Names of the programs."""
        return sorted(PLACES)

    def stop(self, name: str) -> None:
        """Scale a program to nothing and wait until its pods are gone."""
        at = place(name)
        if at.account not in self._down:
            self._ran |= {at.account} if workloads.wanted(self.cluster, at) else set()
            self._down[at.account] = workloads.brought_down(self.cluster, at)
        gone = lambda: not workloads.present(self.cluster, at)  # noqa: E731
        self.cluster.wait(gone, STOP_SECONDS, f"{at.namespace}/{at.account} does not stop")
        time.sleep(MESH_SECONDS)

    def start(self, name: str) -> None:
        """Take a stop back and wait until the program answers ready."""
        at = place(name)
        if stack := self._down.pop(at.account, None):
            stack.close()
        if at.account in self._ran:  # an autoscaler sees to it, some time after the pause
            back = lambda: workloads.wanted(self.cluster, at)  # noqa: E731
            self.cluster.wait(back, READY_SECONDS, f"{name} stays at zero")
            self._ran.discard(at.account)
        self.wait_ready(name)

    def wait_ready(self, name: str, seconds: float = READY_SECONDS) -> None:
        """Wait until all of the program's pods are ready and its Service leads to one."""
        at, held = place(name), [""]

        def ready() -> bool:
            held[0] = workloads.unsettled(self.cluster, at)
            if not held[0] and at.service and workloads.wanted(self.cluster, at):
                held[0] = "" if behind(self.cluster, at) else f"nothing behind {at.service}"
            return not held[0]

        try:
            self.cluster.wait(ready, seconds, f"{name} is not ready")
        except ProbeError as error:
            raise ProbeError(f"{error}: {held[0]}") from error
        time.sleep(MESH_SECONDS)

    def kill(self, name: str) -> None:
        """End the program with SIGKILL in all its pods; the kubelet starts it again."""
        at = place(name)
        found = pods(self.cluster, at)
        before = {p["metadata"]["name"]: _restarts(p, at.account) for p in found}
        if not before:
            raise ProbeError(f"{at.namespace}/{at.account}: no pod is ready")
        for pod in before:
            with suppress(ProbeError):  # the command ends with the container it is in
                self.cluster.exec(at.namespace, pod, at.account, ["python3", "-c", _KILL])

        def killed() -> bool:
            now = self.cluster.list("v1", "Pod", at.namespace)
            counts = {p["metadata"]["name"]: _restarts(p, at.account) for p in now}
            return all(counts.get(pod, count + 1) > count for pod, count in before.items())

        self.cluster.wait(killed, KILL_SECONDS, f"{name} outlives SIGKILL")

    @contextmanager
    def reconfigured(self, name: str, **settings: str) -> Iterator[None]:
        """Inside the block the program's Deployment has `settings` in its environment."""
        at = place(name)
        found = workloads.scaled(self.cluster, at)
        if len(found) != 1:
            raise ProbeError(f"{at.namespace}/{at.account}: {len(found)} workloads, not one")
        ref = (found[0]["apiVersion"], found[0]["kind"], found[0]["metadata"]["name"])
        patch = workloads.with_environment(found[0], at.account, settings)
        try:
            with changed(self.cluster, *ref, patch, at.namespace):
                self.wait_ready(name)
                yield
        finally:
            self.wait_ready(name)

    @contextmanager
    def replaced(self, name: str, application: Any) -> Iterator[None]:
        """Inside the block an ASGI `application` of this process answers for the program."""
        at = place(name)
        with relayed(self.cluster, at, application, self.image, instead=True):
            time.sleep(POLICY_SECONDS)
            yield
        self.wait_ready(name)

    @contextmanager
    def fronted(self, name: str, application: Callable[[str], Any]) -> Iterator[None]:
        """Inside the block `application(url)` answers there, and the program itself at `url`."""
        with (
            forward(self.cluster, name, past_service=True) as door,
            self.replaced(name, application(f"http://{door.address}")),
        ):
            yield

    @contextmanager
    def stand_in(self, name: str, application: Any) -> Iterator[str]:
        """The URL inside the block of an ASGI `application` that the program's callers reach."""
        with relayed(self.cluster, place(name), application, self.image, instead=False) as url:
            time.sleep(POLICY_SECONDS)
            yield url


def _restarts(pod: Object, container: str) -> int:
    statuses = pod.get("status", {}).get("containerStatuses", [])
    return sum(int(s.get("restartCount", 0)) for s in statuses if s["name"] == container)
