"""Whom a compromised pod reaches: past its sidecar, and through it with the account's identity.

Past it, as the proxy's own user, a connection is enough: NetworkPolicy alone stands in the way.
Through it every connection opens, so a server must answer: in its own protocol, to this identity.
"""

import time
from collections.abc import Callable, Iterator, Sequence

from conformance.gate import ProbeError
from conformance.gates.intelligence._compromise.attempts import Attempt
from conformance.gates.intelligence._compromise.footholds import BARE, CONTAINER, Foothold
from conformance.gates.intelligence._compromise.targets import OWN_PORTS, Door
from conformance.probes.cluster import Cluster, Object
from conformance.probes.cluster.dialling import run
from conformance.static.matrix import Edge, Matrix

RAW, MESH = "network", "mesh"
_RAW = {"seconds": 1.5, "attempts": 2, "reply_seconds": 0, "most": 0}
_MESH = {"seconds": 3.0, "attempts": 1, "reply_seconds": 12, "most": 700}
_LIMIT_SECONDS = 90.0
_AGAIN, _PAUSE_SECONDS = 3, 2.0
_TLS = {443, 2379, 2380, 6443, 8200, 8201, 8443, 9443, 10250, 10257, 10259, 15012, 15017}
_DNS = bytes.fromhex("001c0001010000010000000000000a6b756265726e657465730000010001")
_HELLO = {
    53: _DNS,
    5432: bytes.fromhex("0000000804d2162f"),  # SSLRequest
    6379: b"PING\r\n",
    9092: bytes.fromhex("0000000a00120000000000010000"),  # ApiVersions
    9094: bytes.fromhex("0000000a00120000000000010000"),
    9093: bytes.fromhex("0000000a00120000000000010000"),
    15053: _DNS,
}
_MAY_SLEEP = {"llm"}  # scaled to zero, maybe while this runs: the gate of that name wakes it
_BY_PATH = {"guard"}  # callers have their own paths there, which the attempts of `identity` ask for
_DENIED = "RBAC: access denied"
_FROM_UPSTREAM = "x-envoy-upstream-service-time"
_PROXY = "server: envoy"


def tried(
    cluster: Cluster, foothold: Foothold, doors: Sequence[Door], matrix: Matrix
) -> Iterator[Attempt]:
    """Every door, in both ways; raises `ProbeError`."""
    whys = [_by_design(foothold, door, matrix) for door in doors]
    raw = _insisted(
        lambda some: _knocked(cluster, foothold, BARE, _RAW, [_to(door) for door in some]),
        lambda answer: (bool(answer["connected"]), str(answer["error"]) or "connected"),
        doors,
        [needed for _, needed in whys],
    )
    for door, (why, needed), (got, told) in zip(doors, whys, raw, strict=True):
        yield _attempt(foothold, RAW, f"reach {door.name}", got, told, why, needed)
    named = [
        needed and bool(door.authority) and door.account not in _BY_PATH
        for door, (_, needed) in zip(doors, whys, strict=True)
    ]
    meshed = _insisted(
        lambda some: _knocked(cluster, foothold, CONTAINER, _MESH, [_say(door) for door in some]),
        answered,
        doors,
        named,  # the mesh knows Services, not pods
    )
    for door, (why, _), needed, (got, told) in zip(doors, whys, named, meshed, strict=True):
        yield _attempt(foothold, MESH, f"speak to {door.name}", got, told, why, needed)
    own = [Door(f"its own sidecar:{port}", "127.0.0.1", port) for port in OWN_PORTS]
    said = _knocked(cluster, foothold, CONTAINER, _MESH, [_say(door) for door in own])
    for door, answer in zip(own, said, strict=True):
        told = answered(answer)[1]
        yield Attempt(str(foothold), MESH, f"speak to {door.name}", bool(answer["reply"]), told)


Outcome = tuple[bool, str]


def _insisted(
    knock: Callable[[Sequence[Door]], list[Object]],
    read: Callable[[Object], Outcome],
    doors: Sequence[Door],
    needed: Sequence[bool],
) -> list[Outcome]:
    """What became of each door; one that has to open is shut only when it stays so."""
    found = [read(answer) for answer in knock(doors)]
    for _ in range(_AGAIN):
        shut = [n for n, (got, _) in enumerate(found) if needed[n] and not got]
        if not shut:
            break
        time.sleep(_PAUSE_SECONDS)
        for n, answer in zip(shut, knock([doors[n] for n in shut]), strict=True):
            found[n] = read(answer)
    return found


def _attempt(
    foothold: Foothold, family: str, what: str, got: bool, told: str, why: str, needed: bool
) -> Attempt:
    return Attempt(str(foothold), family, what, got, told, why if got or needed else "")


def _knocked(
    cluster: Cluster, foothold: Foothold, container: str, how: Object, knocks: Sequence[Object]
) -> list[Object]:
    order = {**how, "knocks": knocks}
    told: list[Object] = run(
        cluster, foothold.pod, "knock", order, _LIMIT_SECONDS, container=container
    )
    if len(told) != len(knocks):
        raise ProbeError(f"{foothold}: {len(told)} answers to {len(knocks)} knocks")
    return told


def _to(door: Door) -> Object:
    return {"host": door.host, "port": door.port}


def _say(door: Door) -> Object:
    if door.port in _TLS:
        return {**_to(door), "tls": True}
    host = f"{door.authority or door.host}:{door.port}"
    web = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    return {**_to(door), "hello": _HELLO.get(door.port, web).hex()}


def answered(answer: Object) -> tuple[bool, str]:
    """Whether the server itself answered, no proxy in its place; and how the answer begins."""
    reply = str(answer["reply"])
    if not reply:
        return False, str(answer["error"]) or "closed without an answer"
    told = reply.splitlines()[0][:80] if reply.isprintable() or "\r\n" in reply else "an answer"
    if not reply.startswith("HTTP/"):
        return True, told
    if _DENIED in reply:
        return False, f"{told}: {_DENIED}"
    head = reply.partition("\r\n\r\n")[0].lower()
    return _PROXY not in head or _FROM_UPSTREAM in head, told


def _by_design(foothold: Foothold, door: Door, matrix: Matrix) -> tuple[str, bool]:
    """Why the matrix lets this through, and whether it has to work for the matrix to be needed."""
    own = (foothold.namespace, foothold.account)
    if Edge(*own, door.namespace, door.account, door.pod_port) in matrix.flows:
        return "a flow of matrix.yaml", door.served and door.account not in _MAY_SLEEP
    if (door.namespace, door.pod_port) in matrix.reached:
        return "an exception of matrix.yaml, which every layer has", door.served
    return "", False
