"""A Secret really looked for in etcd's files, on the disks of the control plane."""

import base64
import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from conformance.gate import Context, ProbeError
from conformance.probes.cluster import Cluster, Object, planted, probe_pod, unique

SYSTEM = "kube-system"
START_SECONDS = 90.0
_FOLDER = "/etcd"
_BYTES = 48
UNDECLARED = "say `etcd: 'unreachable: <the reason>'` in the SLO file where it is not yours"


@dataclass(frozen=True, slots=True)
class Member:
    """One member of etcd: its node and where its files are on the node's disk."""

    node: str
    folder: str


def members(cluster: Cluster) -> list[Member]:
    """The members behind the API server, by the flags of the static pods; raises `ProbeError`."""
    found = cluster.list("v1", "Pod", SYSTEM, "component=etcd")
    servers = cluster.list("v1", "Pod", SYSTEM, "component=kube-apiserver")
    if not found or not servers:
        raise ProbeError(f"no static pods of etcd and kube-apiserver in {SYSTEM}: {UNDECLARED}")
    told = [flags(pod) for pod in found]
    listening = {url for f in told for key in _URLS for url in f.get(key, "").split(",")}
    for server in servers:
        dialled = set(flags(server).get("etcd-servers", "").split(","))
        if not dialled <= listening:
            where = ", ".join(sorted(dialled - listening))
            raise ProbeError(f"the API server's etcd at {where} is none of {SYSTEM}: {UNDECLARED}")
    return [_member(pod, f) for pod, f in zip(found, told, strict=True)]


_URLS = ("listen-client-urls", "advertise-client-urls")


def flags(pod: Object) -> dict[str, str]:
    """The flags of a static pod's program by name."""
    container = pod["spec"]["containers"][0]
    words = [*(container.get("command") or []), *(container.get("args") or [])]
    pairs = (word.lstrip("-").partition("=") for word in words if word.startswith("--"))
    return {name: value for name, _, value in pairs}


def _member(pod: Object, told: Mapping[str, str]) -> Member:
    folder = PurePosixPath(told.get("data-dir", ""))
    volumes = {v["name"]: v["hostPath"]["path"] for v in pod["spec"]["volumes"] if "hostPath" in v}
    for mount in pod["spec"]["containers"][0]["volumeMounts"]:
        inside = PurePosixPath(mount["mountPath"])
        if mount["name"] in volumes and folder.is_relative_to(inside):
            where = PurePosixPath(volumes[mount["name"]]) / folder.relative_to(inside)
            return Member(pod["spec"]["nodeName"], str(where))
    raise ProbeError(f"{pod['metadata']['name']}: its --data-dir {folder} is on no hostPath")


def searched(context: Context) -> Iterator[tuple[str, str]]:
    """Each member, and the files in which a new Secret's bytes lie readable ('' for none)."""
    cluster = context.target.cluster
    found = members(cluster)
    name = unique(cluster, "etcd")
    hidden, shown = secrets.token_bytes(_BYTES), secrets.token_bytes(_BYTES)
    needles = [hidden, base64.b64encode(hidden), shown]
    pods = [_pod(context, f"{name}-{i}", m, needles) for i, m in enumerate(found)]
    with (
        planted(cluster, _canary("Secret", name, hidden), _canary("ConfigMap", name, shown)),
        planted(cluster, *pods, evidence=context.evidence),
    ):
        for pod, member in zip(pods, found, strict=True):
            told = _result(cluster, pod)
            context.evidence.write(f"etcd-{member.node}.json", told)
            yield f"etcd on {member.node}", _verdict(member, told["found"], hidden, shown)


def _verdict(member: Member, found: Mapping[str, list[str]], hidden: bytes, shown: bytes) -> str:
    """What is wrong; raises `ProbeError` when the search would not find what is there."""
    if not found[shown.hex()]:
        raise ProbeError(
            f"{member.node}:{member.folder}: not even a ConfigMap's bytes are found: "
            "a search there proves nothing (other files, or ConfigMaps are encrypted too)"
        )
    files = {*found[hidden.hex()], *found[base64.b64encode(hidden).hex()]}
    return f"a Secret's bytes are readable in {', '.join(sorted(files))}" if files else ""


def _canary(kind: str, name: str, content: bytes) -> Object:
    field = "data" if kind == "Secret" else "binaryData"
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": SYSTEM},
        field: {"canary": base64.b64encode(content).decode()},
    }


def _pod(context: Context, name: str, member: Member, needles: list[bytes]) -> Object:
    """A pod beside a member that may read its files: root, as they are root's, and no more."""
    image = context.parameter("probe_image")
    pod = probe_pod(name, SYSTEM, image, "search", [_FOLDER, *(n.hex() for n in needles)])
    spec = pod["spec"]
    spec["nodeName"] = member.node
    spec["tolerations"] = [{"operator": "Exists"}]
    for level in (spec, spec["containers"][0]):
        level["securityContext"] |= {"runAsNonRoot": False, "runAsUser": 0, "runAsGroup": 0}
    spec["volumes"] = [{"name": "etcd", "hostPath": {"path": member.folder, "type": "Directory"}}]
    spec["containers"][0]["volumeMounts"] = [
        {"name": "etcd", "mountPath": _FOLDER, "readOnly": True}
    ]
    return pod


def _result(cluster: Cluster, pod: Object) -> dict[str, dict[str, list[str]]]:
    """What the pod printed; raises `ProbeError` when it failed or did not end."""
    name = pod["metadata"]["name"]
    what = f"the search in {SYSTEM}/{name}"

    def ended() -> str:
        phase = cluster.get("v1", "Pod", name, SYSTEM)["status"].get("phase")
        return phase if phase in ("Succeeded", "Failed") else ""

    phase, log = cluster.wait(ended, START_SECONDS, what), cluster.logs(SYSTEM, name)
    if phase != "Succeeded":
        raise ProbeError(f"{what} failed: {log[-500:].strip()}")
    told: dict[str, dict[str, list[str]]] = json.loads(log)
    return told
