"""Where a credential might lie: Secrets, ConfigMaps and pods of the layers, and the files in Git."""

import base64
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from conformance.errors import GitError
from conformance.gate import ProbeError
from conformance.gates.foundation._credentials import configured, shaped
from conformance.gates.foundation._operated import Exemption, excused
from conformance.git import git
from conformance.probes.cluster import Cluster, Object
from conformance.static import credentials
from conformance.static.environment import Environment
from conformance.static.pods import pods

PUBLISHED = ("apps/", "clusters/", "platform/")  # what reaches a cluster
EXAMPLES = frozenset({"secret"})  # the password of a URL in tests and documents
_CERTIFICATE = "cert-manager.io/certificate-name"
_TLS_KEYS = frozenset({"ca.crt", "tls.crt", "tls.key"})
_CERTIFICATES = re.compile(
    r"(?:-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----\s*)+"
)
Looked = tuple[str, str]  # at what, and what is wrong with it: '' for nothing


def layers(cluster: Cluster) -> list[str]:
    """The namespaces where no credential may lie; raises `ProbeError` when there is none."""
    names = [item["metadata"]["name"] for item in cluster.list("v1", "Namespace")]
    found = [n for n in names if n.startswith("rag-") or n in ("gateway", "audit")]
    if not found:
        raise ProbeError("the cluster has no namespace rag-*: is the platform on it?")
    return found


def secrets(
    cluster: Cluster, namespaces: Iterable[str], exempt: Sequence[Exemption] = ()
) -> Iterator[Looked]:
    """Every Secret with data is wrong, but for a key pair that cert-manager issues and renews.

    A gateway can take its key from nowhere else. Certificates alone are public, and an operator's
    own keys are let lie where the SLO file says so. A service account's token Secret never expires,
    and a registry's password belongs to the nodes, so neither is allowed.
    """
    for namespace in namespaces:
        issued = _issued(cluster, namespace)
        for item in cluster.list("v1", "Secret", namespace):
            name, data = item["metadata"]["name"], item.get("data") or {}
            good = _is_public(data) or (_is_issued(item, issued) and data.keys() <= _TLS_KEYS)
            owners = [] if good else [entry for entry in exempt if entry.excuses(item)]
            good = good or bool(owners)
            wrong = "" if good else f"a Secret of type {item.get('type')} with {', '.join(data)}"
            yield f"Secret {namespace}/{name}", wrong


def _is_public(data: Mapping[str, str]) -> bool:
    """Whether there is nothing but certificates."""
    return all(map(_CERTIFICATES.fullmatch, map(_decoded, data.values())))


def _issued(cluster: Cluster, namespace: str) -> dict[str, str]:
    """The Secret of each of cert-manager's Certificates, with the Certificate's name."""
    found = cluster.find_all("cert-manager.io/v1", "Certificate", namespace)
    return {item["spec"]["secretName"]: item["metadata"]["name"] for item in found}


def _is_issued(secret: Object, issued: dict[str, str]) -> bool:
    name, marks = secret["metadata"]["name"], secret["metadata"].get("annotations") or {}
    is_tls = secret.get("type") == "kubernetes.io/tls"
    return is_tls and name in issued and marks.get(_CERTIFICATE) == issued[name]


def config_maps(cluster: Cluster, namespaces: Iterable[str]) -> Iterator[Looked]:
    """Every entry of a ConfigMap."""
    for namespace in namespaces:
        for item in cluster.list("v1", "ConfigMap", namespace):
            where = f"ConfigMap {namespace}/{item['metadata']['name']}"
            for key, text in _entries(item):
                yield f"{where} {key}", "; ".join(configured(key, text))


def _entries(item: Object) -> Iterator[tuple[str, str]]:
    yield from (item.get("data") or {}).items()
    for key, coded in (item.get("binaryData") or {}).items():
        yield key, _decoded(coded)


def _decoded(coded: str) -> str:
    return base64.b64decode(coded).decode(errors="replace")


def running(
    cluster: Cluster, namespaces: Iterable[str], exempt: Sequence[Exemption] = ()
) -> Iterator[Looked]:
    """Environment, arguments and volumes of every pod, by the static rules and by the values.

    A Secret that was let lie may be mounted.
    """
    for namespace in namespaces:
        let_lie = excused(exempt, namespace)
        found = [_without(let_lie, pod) for pod in cluster.list("v1", "Pod", namespace)]
        yield from by_rules("live", found)
        for pod in pods(Environment("live", tuple(found), ())):
            for container in pod.containers():
                yield from _container(f"{pod.where} {container['name']}", container)


def _without(let_lie: Collection[str], pod: Object) -> Object:
    """The pod without the volumes that hold nothing but these Secrets."""
    volumes = pod["spec"].get("volumes") or []
    kept = [v for v in volumes if not (names := credentials.mounted(v)) or names - set(let_lie)]
    return {**pod, "spec": {**pod["spec"], "volumes": kept}}


def _container(where: str, container: dict[str, Any]) -> Iterator[Looked]:
    for variable in container.get("env") or []:
        told = configured(variable["name"], variable.get("value") or "")
        yield f"{where} {variable['name']}", "; ".join(told)
    for word in [*(container.get("command") or []), *(container.get("args") or [])]:
        flag = configured("", word.lstrip("-")) if word.startswith("--") else shaped(word)
        yield f"{where} arguments", "; ".join(flag)


def by_rules(name: str, items: Iterable[Object]) -> Iterator[Looked]:
    """What the static rules for credentials say of objects."""
    for item in items:
        found = [f for rule in credentials.RULES for f in rule(Environment(name, (item,), ()))]
        where = f"{item['kind']} {item['metadata'].get('namespace', '')}/{item['metadata']['name']}"
        yield where, "; ".join(f.message for f in found)


def tracked(root: Path) -> Iterator[Looked]:
    """Every text file that Git knows: manifests as configuration, others by a credential's shape."""
    for name in _git_files(root):
        file = root / name
        if not file.is_file() or b"\0" in (content := file.read_bytes()):
            continue
        text = content.decode(errors="replace")
        published = name.startswith(PUBLISHED)
        told = configured(file.name, text) if published else shaped(text, EXAMPLES)
        yield f"Git {name}", "; ".join(told)
        if published and file.suffix == ".yaml":
            yield from ((f"Git {name}: {w}", why) for w, why in by_rules("git", _manifests(text)))


def _manifests(text: str) -> Iterator[Object]:
    """The whole objects of a file; patches lack what the rules look at."""
    for item in yaml.load_all(text, yaml.CSafeLoader):
        if isinstance(item, dict) and {"kind", "metadata"} <= item.keys() and _is_whole(item):
            yield item


def _is_whole(item: Object) -> bool:
    spec = item.get("spec") or {}
    if item["kind"] == "CronJob":
        spec = (spec.get("jobTemplate") or {}).get("spec") or {}
    makes_pods = item["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")
    return "name" in item["metadata"] and (not makes_pods or "spec" in spec.get("template", {}))


def _git_files(root: Path) -> list[str]:
    try:
        names = git(root, "ls-files", "-z")
    except GitError as error:
        raise ProbeError(str(error)) from error
    return [name for name in names.split("\0") if name]
