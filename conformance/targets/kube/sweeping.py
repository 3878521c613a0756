"""What runs that are gone left in the cluster."""

import json
import os
import socket
import time
from collections.abc import Iterator

from conformance.targets.kube.changing import CHANGED
from conformance.targets.kube.client import Cluster, ref_of
from conformance.targets.kube.errors import Object
from conformance.targets.kube.planting import KINDS, LABEL, OWNER, remove

GONE_SECONDS = 60
LONGEST_SECONDS = 900  # nothing planted is needed for longer
# What may be changed, on top of what may be planted.
CHANGED_KINDS = (
    *KINDS,
    ("v1", "ResourceQuota"),
    ("v1", "LimitRange"),
    ("v1", "Node"),
    ("apps/v1", "DaemonSet"),
    ("apps/v1", "StatefulSet"),
    ("batch/v1", "CronJob"),
    ("networking.istio.io/v1alpha3", "EnvoyFilter"),
)


def sweep(cluster: Cluster, *, own: bool = False) -> list[str]:
    """Delete what was planted and undo what was changed by runs that are gone, and by this if `own`.

    Gone is a run whose process has ended on this host, or that planted more than 15 minutes ago.
    Returns what was taken away; raises `ProbeError`.
    """
    undone = [
        _undo(cluster, item)
        for item in _labelled(cluster, CHANGED_KINDS, CHANGED)
        if _abandoned(item, own)
    ]
    leftovers = [i for i in _labelled(cluster, KINDS, LABEL) if _abandoned(i, own)]
    remove(cluster, leftovers[::-1])  # it begins with the last; namespaces go last
    return undone + [_name(item) for item in leftovers]


def clear(cluster: Cluster) -> None:
    """Take away what this run planted and changed, and wait until it is gone; `ProbeError` if not."""
    sweep(cluster, own=True)

    def left() -> list[str]:
        every = [*_labelled(cluster, KINDS, LABEL, ending=True)]
        return [_name(item) for item in every if _own(item)]

    if left():
        cluster.wait(lambda: not left(), GONE_SECONDS, "what this run planted is still there")


def _labelled(
    cluster: Cluster, kinds: tuple[tuple[str, str], ...], label: str, *, ending: bool = False
) -> Iterator[Object]:
    for api_version, kind in kinds:
        # A kind that is not installed was not planted.
        found = cluster.find_all(api_version, kind, labels=label)
        yield from (i for i in found if ending or "deletionTimestamp" not in i["metadata"])


def _abandoned(item: Object, own: bool) -> bool:
    host, pid, planted = _owner(item)
    if not planted.isdecimal() or time.time() - int(planted) > LONGEST_SECONDS:
        return True
    if host != socket.gethostname():
        return False
    return own if _own(item) else not _alive(int(pid))


def _own(item: Object) -> bool:
    return _owner(item)[:2] == [socket.gethostname(), str(os.getpid())]


def _owner(item: Object) -> list[str]:
    """Host, process and time of planting, as far as they are told."""
    told = (item["metadata"].get("annotations") or {}).get(OWNER, "")
    return [*told.split("/"), "", ""][:3]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _undo(cluster: Cluster, item: Object) -> str:
    undo = json.loads(item["metadata"]["annotations"][CHANGED])
    api_version, kind, name, namespace = ref_of(item)
    cluster.patch(api_version, kind, name, undo, namespace)
    return f"{_name(item)} (changed)"


def _name(item: Object) -> str:
    _, kind, name, namespace = ref_of(item)
    return f"{kind} {namespace}/{name}".replace(" /", " ")
