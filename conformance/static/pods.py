"""The pods that objects make, and their containers."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from conformance.static.environment import Environment
from conformance.static.finding import Object, name_of

_TEMPLATES = {"Deployment", "StatefulSet", "DaemonSet", "Job", "ReplicaSet"}
SERVING = {"Deployment", "StatefulSet", "DaemonSet"}


@dataclass(frozen=True)
class Pod:
    """A pod template: the object that makes it, its metadata and its spec."""

    owner: Object
    metadata: dict[str, Any]
    spec: dict[str, Any]

    @property
    def labels(self) -> dict[str, str]:
        """The labels of the pod."""
        return dict(self.metadata.get("labels") or {})

    @property
    def annotations(self) -> dict[str, str]:
        """The annotations of the pod."""
        return dict(self.metadata.get("annotations") or {})

    @property
    def where(self) -> str:
        """The owner's name."""
        return name_of(self.owner)

    @property
    def namespace(self) -> str:
        """The namespace it runs in."""
        return str(self.owner["metadata"].get("namespace", ""))

    @property
    def replicas(self) -> int:
        """How many of it there are at least."""
        spec = self.owner.get("spec") or {}
        if self.owner["kind"] == "InferenceService":
            return int(self.spec.get("minReplicas", 1))
        return int(spec.get("replicas", 1))

    def containers(self, *, init: bool = True) -> Iterator[dict[str, Any]]:
        """Its containers, those that only prepare it included on request."""
        yield from self.spec.get("containers") or []
        if init:
            yield from self.spec.get("initContainers") or []


def pods(environment: Environment) -> Iterator[Pod]:
    """Every pod template of the environment."""
    for item in environment.objects:
        if pod := _pod(item):
            yield pod


def selected(templates: Iterable[Pod], namespace: str, labels: Mapping[str, str]) -> list[Pod]:
    """The pods of the namespace that have all of `labels`."""
    return [p for p in templates if p.namespace == namespace and labels.items() <= p.labels.items()]


def _pod(item: Object) -> Pod | None:
    kind, spec = item.get("kind"), item.get("spec") or {}
    if kind == "Pod":
        return Pod(item, item["metadata"], spec)
    if kind == "ServingRuntime":
        return Pod(item, spec, spec)
    if kind == "InferenceService":
        return Pod(item, item["metadata"], spec.get("predictor") or {})
    if kind == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    elif kind not in _TEMPLATES:
        return None
    template = spec["template"]
    return Pod(item, template.get("metadata") or {}, template["spec"])
