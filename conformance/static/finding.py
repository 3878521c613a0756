"""What a rule has to say about an object."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
CLUSTER_SCOPED = {
    "APIService",
    "ClusterIssuer",
    "ClusterRole",
    "ClusterRoleBinding",
    "ClusterServingRuntime",
    "ClusterStorageContainer",
    "CustomResourceDefinition",
    "GatewayClass",
    "MutatingWebhookConfiguration",
    "Namespace",
    "NodePool",
    "PersistentVolume",
    "PriorityClass",
    "StorageClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
    "VolumeSnapshotClass",
}


@dataclass(frozen=True, order=True, slots=True)
class Finding:
    """A broken rule: its name, the object, and what is wrong with it."""

    rule: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.where}: {self.message}"


def name_of(item: Object) -> str:
    """`Kind namespace/name` of an object."""
    meta = item.get("metadata") or {}
    namespace = f"{meta['namespace']}/" if meta.get("namespace") else ""
    return f"{item.get('kind', '?')} {namespace}{meta.get('name', '?')}"


def identity(item: Object) -> tuple[str, str, str, str]:
    """API group, kind, namespace and name: what the API server tells objects apart by."""
    group = str(item.get("apiVersion", "")).rpartition("/")[0]
    meta = item.get("metadata") or {}
    return group, item.get("kind", ""), meta.get("namespace", ""), meta.get("name", "")


def labels_of(item: Object) -> dict[str, str]:
    """The labels of an object."""
    return (item.get("metadata") or {}).get("labels") or {}


Rule = Callable[[Any], Iterator[Finding]]
