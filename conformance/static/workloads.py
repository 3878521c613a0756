"""Rules for what runs: exact images, resources, probes, no privileges, disruption budgets."""

import re
from collections.abc import Iterator
from typing import Any

from conformance.static.environment import Environment
from conformance.static.finding import Finding
from conformance.static.pods import SERVING, Pod, pods, selected

# host/path:tag, host/path@sha256:... or both; a tag names a version, so it has a digit.
_DIGEST = r"@sha256:[0-9a-f]{64}"
_IMAGE = re.compile(
    rf"[\w-]+(\.[\w-]+)+(:\d+)?/[\w./-]+(:(?=\S*\d)[\w][\w.-]*({_DIGEST})?|{_DIGEST})"
)
_SAME_USER = "vault.hashicorp.com/agent-run-as-same-user"
_RESOURCES = [(kind, name) for kind in ("requests", "limits") for name in ("cpu", "memory")]


def image_exact(environment: Environment) -> Iterator[Finding]:
    """An image without its registry, without a tag, or with one that moves."""
    for pod in pods(environment):
        for container in pod.containers():
            image = container.get("image", "")
            if not _IMAGE.fullmatch(image):
                yield Finding("image-exact", pod.where, f"{image!r}: write registry/name:version")


def resources(environment: Environment) -> Iterator[Finding]:
    """A container without requests and limits for CPU and memory."""
    for pod in pods(environment):
        for container in pod.containers():
            has = container.get("resources") or {}
            missing = [
                f"{kind}.{name}" for kind, name in _RESOURCES if name not in has.get(kind, {})
            ]
            if missing:
                yield Finding(
                    "resources", pod.where, f"{container['name']}: no {', '.join(missing)}"
                )


def probes(environment: Environment) -> Iterator[Finding]:
    """A container that serves without a readiness and a liveness probe."""
    for pod in pods(environment):
        if pod.owner["kind"] not in SERVING:
            continue
        for container in pod.containers(init=False):
            missing = [p for p in ("readinessProbe", "livenessProbe") if p not in container]
            if missing:
                yield Finding("probes", pod.where, f"{container['name']}: no {', '.join(missing)}")


def unprivileged(environment: Environment) -> Iterator[Finding]:
    """A container that may be root, gain privileges, or write its own root file system."""
    for pod in pods(environment):
        for container in pod.containers():
            for wrong in _privileges(pod, container):
                yield Finding("unprivileged", pod.where, f"{container['name']}: {wrong}")


def _privileges(pod: Pod, container: dict[str, Any]) -> Iterator[str]:
    shared = pod.spec.get("securityContext") or {}
    own = container.get("securityContext") or {}
    both = {**shared, **own}
    if both.get("runAsNonRoot") is not True or both.get("runAsUser") == 0:
        yield "may run as root: runAsNonRoot: true"
    if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
        yield "may gain privileges: allowPrivilegeEscalation: false"
    if (own.get("capabilities") or {}).get("drop") != ["ALL"] or own["capabilities"].get("add"):
        yield "keeps capabilities: drop: [ALL]"
    if own.get("readOnlyRootFilesystem") is not True:
        yield "may write its root: readOnlyRootFilesystem: true"
    if (both.get("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "makes any system call: seccompProfile: RuntimeDefault"


def agent_user(environment: Environment) -> Iterator[Finding]:
    """A vault agent that runs as its container's user, where the container does not name one.

    The injector reads the container's security context only and refuses the pod otherwise.
    """
    for pod in pods(environment):
        if pod.annotations.get(_SAME_USER) != "true":
            continue
        for container in pod.containers(init=False):
            if "runAsUser" not in (container.get("securityContext") or {}):
                message = f"{container['name']}: {_SAME_USER} takes securityContext.runAsUser"
                yield Finding("agent-user", pod.where, message)


def host_access(environment: Environment) -> Iterator[Finding]:
    """A pod that shares the node's namespaces or mounts its files."""
    for pod in pods(environment):
        shared = [k for k in ("hostNetwork", "hostPID", "hostIPC") if pod.spec.get(k)]
        mounted = [v["name"] for v in pod.spec.get("volumes") or [] if "hostPath" in v]
        for name in [*shared, *mounted]:
            yield Finding("host-access", pod.where, f"{name}: a pod stays off its node")


def disruption_budget(environment: Environment) -> Iterator[Finding]:
    """More than one replica without a PodDisruptionBudget, or a budget that selects no pod."""
    templates = list(pods(environment))
    covered: set[str] = set()
    for budget in environment.of("PodDisruptionBudget"):
        wanted = budget["spec"]["selector"].get("matchLabels") or {}
        namespace = budget["metadata"].get("namespace", "")
        hit = selected(templates, namespace, wanted)
        covered |= {p.where for p in hit}
        if not hit:
            name = f"PodDisruptionBudget {namespace}/{budget['metadata']['name']}"
            yield Finding("disruption-budget", name, f"selects no pod: {wanted}")
    for pod in templates:
        if pod.owner["kind"] in SERVING and pod.replicas > 1 and pod.where not in covered:
            message = f"{pod.replicas} replicas and no PodDisruptionBudget"
            yield Finding("disruption-budget", pod.where, message)


RULES = (
    image_exact,
    resources,
    probes,
    unprivileged,
    agent_user,
    host_access,
    disruption_budget,
)
