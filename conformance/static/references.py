"""Rules for names that objects use: each must be the name of something that is there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from conformance.static.environment import Environment
from conformance.static.finding import Finding, Object, name_of
from conformance.static.pods import Pod, pods, selected

Names = set[tuple[str, str, str]]
OPERATED = Path(__file__).with_name("operated.yaml")
_GIVEN = {("ClusterRole", "", "system:auth-delegator"), ("ServiceAccount", "*", "default")}


def _names(environment: Environment) -> Names:
    """Kind, namespace and name of all that is there, and of the Secrets that Certificates make."""
    found = set(_GIVEN)
    for item in environment.objects:
        meta = item["metadata"]
        found.add((item["kind"], meta.get("namespace", ""), meta["name"]))
        if item["kind"] == "Certificate":
            found.add(("Secret", meta.get("namespace", ""), item["spec"]["secretName"]))
    return found


def dangling(environment: Environment) -> Iterator[Finding]:
    """A reference to a ConfigMap, Secret, claim, account, role, chart or source that is not there."""
    known = _names(environment)
    for where, kind, namespace, name in _used(environment):
        if (kind, namespace, name) not in known and (kind, "*", name) not in known:
            place = f"{namespace}/" if namespace else ""
            yield Finding("dangling", where, f"there is no {kind} {place}{name}")


def _used(environment: Environment) -> Iterator[tuple[str, str, str, str]]:
    for pod in pods(environment):
        for kind, name in _of_pod(pod):
            yield pod.where, kind, pod.namespace, name
    for item in environment.objects:
        for kind, namespace, name in _of_object(item):
            yield name_of(item), kind, namespace, name


def _of_pod(pod: Pod) -> Iterator[tuple[str, str]]:
    yield "ServiceAccount", pod.spec.get("serviceAccountName", "default")
    for volume in pod.spec.get("volumes") or []:
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"]
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
    for container in pod.containers():
        for variable in container.get("env") or []:
            source = variable.get("valueFrom") or {}
            if "secretKeyRef" in source:
                yield "Secret", source["secretKeyRef"]["name"]
            if "configMapKeyRef" in source:
                yield "ConfigMap", source["configMapKeyRef"]["name"]


def _of_object(item: Object) -> Iterator[tuple[str, str, str]]:
    spec: dict[str, Any] = item.get("spec") or {}
    namespace = item["metadata"].get("namespace", "")
    if "roleRef" in item:
        role = item["roleRef"]
        yield role["kind"], namespace if role["kind"] == "Role" else "", role["name"]
        for subject in item.get("subjects") or []:
            if subject["kind"] == "ServiceAccount":
                yield "ServiceAccount", subject["namespace"], subject["name"]
    if item["kind"] == "HelmChart":
        yield spec["sourceRef"]["kind"], namespace, spec["sourceRef"]["name"]
    if item["kind"] == "HelmRelease":
        yield spec["chartRef"]["kind"], namespace, spec["chartRef"]["name"]
    if item["kind"] == "Kustomization" and spec["sourceRef"]["name"] != "rag-blueprint":
        yield spec["sourceRef"]["kind"], namespace, spec["sourceRef"]["name"]
    if item["kind"] == "Certificate":
        issuer = spec["issuerRef"]
        yield issuer["kind"], "" if issuer["kind"] == "ClusterIssuer" else namespace, issuer["name"]
    for hook in item.get("webhooks") or []:
        service = hook["clientConfig"]["service"]
        yield "Service", service["namespace"], service["name"]


def service_selects(environment: Environment) -> Iterator[Finding]:
    """A Service that selects no pod, or names a port that its pods do not have."""
    templates = list(pods(environment))
    for item in environment.of("Service"):
        wanted = (item.get("spec") or {}).get("selector") or {}
        namespace = item["metadata"].get("namespace", "")
        hit = selected(templates, namespace, wanted)
        ports = _ports(hit) | _operated(environment, namespace, wanted)
        if not wanted or not ports:
            yield Finding("service-selects", name_of(item), f"selects no pod: {wanted}")
        for port in item["spec"].get("ports") or []:
            target = port.get("targetPort", port["port"])
            if ports and target not in ports:
                yield Finding("service-selects", name_of(item), f"its pods have no port {target}")


def _ports(templates: list[Pod]) -> set[int | str]:
    declared = [p for t in templates for c in t.containers() for p in c.get("ports") or []]
    return {p["containerPort"] for p in declared} | {p["name"] for p in declared if "name" in p}


def _operated(environment: Environment, namespace: str, wanted: dict[str, str]) -> set[int | str]:
    """Ports of the pods that an operator of the environment makes and the labels select."""
    made = {name_of(item) for item in environment.objects}
    return {
        port
        for entry in yaml.safe_load(OPERATED.read_text(encoding="utf-8"))
        if entry["by"] in made and entry["namespace"] == namespace
        if wanted and wanted.items() <= entry["labels"].items()
        for port in entry["ports"]
    }


RULES = (dangling, service_selects)
