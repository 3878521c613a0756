"""Modes and owners of files on a node's disk, read by a pod that may look at those folders only."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from conformance.gate import ProbeError
from conformance.probes.cluster import Cluster, Object, planted, probe_pod, unique

SYSTEM = "kube-system"
START_SECONDS = 90.0
_SCRIPT = """
import json, os, sys
found = {}
for folder in sys.argv[1:]:
    names = [folder]
    for where, folders, files in os.walk(folder):
        names += [os.path.join(where, name) for name in folders + files]
    for name in names:
        told = os.lstat(name)
        found[name.removeprefix("/node")] = [told.st_mode & 0o7777, told.st_uid, told.st_gid]
print(json.dumps(found))
"""
Modes = Mapping[str, tuple[int, int, int]]  # path on the node to mode, uid, gid


def modes(cluster: Cluster, image: str, node: str, folders: Sequence[str]) -> Modes:
    """What lies at and below `folders` (or `.yaml` files) of a node; `ProbeError` if one is missing."""
    name = unique(cluster, "modes")
    pod = _pod(name, image, node, folders)
    with planted(cluster, pod):

        def ended() -> Object | None:
            status: Object = cluster.get("v1", "Pod", name, SYSTEM)["status"]
            return status if status.get("phase") in ("Succeeded", "Failed") else None

        status = cluster.wait(ended, START_SECONDS, f"the look at {node}'s files")
        if "reason" in status:  # the kubelet did not take it, or took it away
            told = f"{status['reason']}: {status.get('message', '')}"
            raise ProbeError(f"the look at {node}'s files did not run: {told}")
        log = cluster.logs(SYSTEM, name)
    if status["phase"] != "Succeeded":
        raise ProbeError(f"the look at {node}'s files failed: {log[-500:].strip()}")
    return {path: tuple(told) for path, told in json.loads(log).items()}


def _type(path: str) -> str:
    return "File" if path.endswith(".yaml") else "Directory"


def _pod(name: str, image: str, node: str, folders: Sequence[str]) -> Object:
    """Root, as the files are root's; each folder is mounted for reading, nothing else."""
    pod = probe_pod(name, SYSTEM, image, "search")
    spec: dict[str, Any] = pod["spec"]
    container = spec["containers"][0]
    container["command"] = ["python3", "-c", _SCRIPT, *(f"/node{folder}" for folder in folders)]
    spec["nodeName"], spec["tolerations"] = node, [{"operator": "Exists"}]
    container["resources"]["requests"]["cpu"] = "0"  # a node that is full takes it too
    for level in (spec, container):
        level["securityContext"] |= {"runAsNonRoot": False, "runAsUser": 0, "runAsGroup": 0}
    spec["volumes"] = [
        {"name": f"folder-{i}", "hostPath": {"path": folder, "type": _type(folder)}}
        for i, folder in enumerate(folders)
    ]
    container["volumeMounts"] = [
        {"name": f"folder-{i}", "mountPath": f"/node{folder}", "readOnly": True}
        for i, folder in enumerate(folders)
    ]
    return pod
