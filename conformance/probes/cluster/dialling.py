"""Connections that are really tried, from a running probe pod."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from conformance.gate import ProbeError
from conformance.targets.kube.client import Cluster
from conformance.targets.kube.errors import Object
from conformance.targets.kube.pods import CONTAINER, source


@dataclass(frozen=True, slots=True)
class Dial:
    """Where to connect: `tcp` connects only, `http` sends a request in plain text, `tls` over TLS."""

    host: str
    port: int
    what: str = "tcp"
    path: str = "/"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a dial: whether TCP connected, what came back, and why nothing more did."""

    host: str
    port: int
    what: str
    connected: bool
    received: int = 0  # bytes
    status: int = 0  # of HTTP, 0 without one
    error: str = ""
    closed: bool = False  # the other end closed or reset the connection


def dial(
    cluster: Cluster, pod: Object, dials: Sequence[Dial], seconds: float = 2.0, attempts: int = 1
) -> list[Answer]:
    """What became of each dial, in their order; all are tried at once.

    One that does not connect within `seconds` is tried again up to `attempts` times: a door is
    only shut when no attempt opened it. Raises `ProbeError`.
    """
    if not dials:
        return []
    order = {"dials": [asdict(d) for d in dials], "seconds": seconds, "attempts": attempts}
    answers = run(cluster, pod, "dial", order, 20 + 3 * seconds * attempts)
    if len(answers) != len(dials):
        raise ProbeError(f"dial: {len(answers)} answers to {len(dials)} dials")
    return [Answer(**answer) for answer in answers]


def await_open(
    cluster: Cluster, pod: Object, dials: Sequence[Dial], seconds: float, what: str
) -> None:
    """Wait until every dial connects: policy agents know a new pod a moment after it runs.

    Raises `ProbeError` with `what` and why the last attempt did not connect.
    """
    shut: list[Answer] = []

    def opens() -> bool:
        shut[:] = [answer for answer in dial(cluster, pod, dials) if not answer.connected]
        return not shut

    try:
        cluster.wait(opens, seconds, what)
    except ProbeError as error:
        why = [f"{answer.host}:{answer.port}: {answer.error}" for answer in shut[:1]]
        raise ProbeError("; ".join([str(error), *why])) from error


def run(
    cluster: Cluster,
    pod: Object,
    script: str,
    order: Mapping[str, Any],
    seconds: float = 30.0,
    container: str = CONTAINER,
) -> Any:
    """The JSON that a script prints in a probe pod for `order`, a line of JSON on its stdin."""
    metadata = pod["metadata"]
    command = ["python3", "-c", source(script)]
    where = (metadata["namespace"], metadata["name"], container)
    printed = cluster.exec(*where, command, stdin=json.dumps(order), seconds=seconds)
    try:
        return json.loads(printed)
    except ValueError as error:
        raise ProbeError(f"{script} in {metadata['name']}: no JSON: {printed[:200]!r}") from error
