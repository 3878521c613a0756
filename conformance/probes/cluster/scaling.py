"""Workloads that a ScaledObject scales: who scales them, and how many there are over time."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from conformance.gate import ProbeError
from conformance.probes.cluster import Cluster, Object, changed
from conformance.probes.cluster.workloads import APPS

KEDA, SCALED_OBJECT = "keda.sh/v1alpha1", "ScaledObject"
POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Scaled:
    """A Deployment and the name of the one ScaledObject that owns its replicas."""

    cluster: Cluster
    namespace: str
    deployment: str
    name: str

    @classmethod
    def of(cls, cluster: Cluster, namespace: str, deployment: str) -> "Scaled":
        """Raises `ProbeError` unless exactly one ScaledObject has the Deployment as its target."""
        owners = [
            item["metadata"]["name"]
            for item in cluster.list(KEDA, SCALED_OBJECT, namespace)
            if item["spec"]["scaleTargetRef"]["name"] == deployment
        ]
        if len(owners) != 1:
            told = ", ".join(owners) or "none"
            raise ProbeError(f"{namespace}/{deployment}: one ScaledObject wanted, there is {told}")
        return cls(cluster, namespace, deployment, owners[0])

    @property
    def item(self) -> Object:
        """The ScaledObject."""
        return self.cluster.get(KEDA, SCALED_OBJECT, self.name, self.namespace)

    def replicas(self) -> int:
        """How many replicas exist or are wanted, ready or not."""
        found = self._deployment()
        wanted = int(found["spec"].get("replicas", 1))
        return max(wanted, int((found.get("status") or {}).get("replicas", 0)))

    def ready(self) -> int:
        """How many replicas are ready."""
        return int((self._deployment().get("status") or {}).get("readyReplicas", 0))

    @contextmanager
    def held(self, spec: Mapping[str, Any]) -> Iterator[None]:
        """Inside the block the ScaledObject has `spec` merged into its own."""
        merged = {"spec": dict(spec)}
        with changed(self.cluster, KEDA, SCALED_OBJECT, self.name, merged, self.namespace):
            yield

    def _deployment(self) -> Object:
        return self.cluster.get(APPS, "Deployment", self.deployment, self.namespace)


@dataclass(slots=True)
class Timeline:
    """What was seen of a workload: (seconds, replicas that were ready)."""

    points: list[tuple[float, float]] = field(default_factory=list)
    error: str = ""

    @property
    def peak(self) -> int:
        """The most that were ready at once."""
        return int(max((y for _, y in self.points), default=0))


@contextmanager
def watched(scaled: Scaled) -> Iterator[Timeline]:
    """Inside the block the ready replicas are looked at once a second; raises `ProbeError` at its end."""
    line, over, started = Timeline(), threading.Event(), time.monotonic()

    def watch() -> None:
        try:
            while True:
                line.points.append((time.monotonic() - started, float(scaled.ready())))
                if over.wait(POLL_SECONDS):
                    return
        except ProbeError as error:
            line.error = str(error)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield line
    finally:
        over.set()
        thread.join()
    if line.error:
        raise ProbeError(f"{scaled.namespace}/{scaled.deployment} not watched: {line.error}")
