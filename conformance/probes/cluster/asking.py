"""HTTPS requests from a running probe pod, so that they take the network's own way."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from conformance.gate import ProbeError
from conformance.probes.cluster.dialling import run
from conformance.targets.kube.client import Cluster
from conformance.targets.kube.errors import Object


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTPS request; `body` is sent as JSON."""

    method: str
    url: str
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """Its answer: the HTTP status and the JSON (or text) that came with it."""

    status: int
    body: Any = field(repr=False)


def ask(cluster: Cluster, pod: Object, requests: Sequence[Request], ca: str) -> list[Reply]:
    """The replies, in order, of servers whose certificate the PEM `ca` signs.

    Raises `ProbeError` when one could not be asked. What is sent and received stays in memory.
    """
    order = {"ca": ca, "requests": [asdict(r) for r in requests]}
    replies = [Reply(r["status"], r["body"]) for r in run(cluster, pod, "ask", order)]
    if unasked := [str(r.body) for r in replies if not r.status]:
        raise ProbeError(f"not reached from {pod['metadata']['name']}: {unasked[0]}")
    return replies
