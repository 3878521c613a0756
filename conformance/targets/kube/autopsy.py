"""What is known of pods that failed, kept before they are deleted."""

from collections.abc import Iterator

import yaml

from conformance.gate import Evidence, ProbeError
from conformance.targets.kube.client import Cluster
from conformance.targets.kube.errors import Object, Objects


def autopsy(cluster: Cluster, items: Objects, evidence: Evidence) -> None:
    """Write status, events and logs of the pods among `items`; never raises `ProbeError`."""
    for item in items:
        if item["kind"] == "Pod":
            metadata = item["metadata"]
            name = f"{metadata['namespace']}-{metadata['name']}.txt"
            evidence.write(
                name, "\n".join(_pages(cluster, metadata["namespace"], metadata["name"]))
            )


def _pages(cluster: Cluster, namespace: str, name: str) -> Iterator[str]:
    try:
        pod = cluster.get("v1", "Pod", name, namespace)
        yield yaml.safe_dump(pod.get("status", {}))
        yield from events(cluster, pod)
        for container in containers(pod):
            yield f"--- log of {container}"
            yield _log(cluster, namespace, name, container)
    except ProbeError as error:
        yield str(error)


def events(cluster: Cluster, item: Object) -> Iterator[str]:
    """The events about an object, one line each; raises `ApiError`."""
    metadata = item["metadata"]
    for event in cluster.list("v1", "Event", metadata.get("namespace", "")):
        about = event["involvedObject"]
        if about.get("name") == metadata["name"] and about.get("kind") == item["kind"]:
            yield f"{event.get('type')} {event.get('reason')}: {event.get('message')}"


def containers(pod: Object) -> list[str]:
    """Names of a pod's containers, the initial ones first."""
    spec = pod["spec"]
    return [c["name"] for c in [*spec.get("initContainers", []), *spec["containers"]]]


def _log(cluster: Cluster, namespace: str, name: str, container: str) -> str:
    try:
        return cluster.logs(namespace, name, container)
    except ProbeError as error:
        return str(error)
