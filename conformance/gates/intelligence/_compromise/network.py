"""Whom a compromised pod reaches: past its sidecar, and through it with the account's identity.

Past it, as the proxy's own user, a connection is enough: NetworkPolicy alone stands in the way.
Through it every connection opens, so a server must answer: in its own protocol, to this identity.
"""

from collections.abc import Iterator, Sequence

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
_TLS = {443, 2379, 2380, 6443, 8200, 8201, 8443, 9443, 10250, 10257, 10259, 15012, 15017}
_DNS = bytes.fromhex("001d000101000001000000000000076b756265726e657465730000010001")
_HELLO = {
    53: _DNS,
    5432: bytes.fromhex("0000000804d2162f"),  # SSLRequest
    6379: b"PING\r\n",
    9092: bytes.fromhex("0000000a00120000000000010000"),  # ApiVersions
    9094: bytes.fromhex("0000000a00120000000000010000"),
    9093: bytes.fromhex("0000000a00120000000000010000"),
    15053: _DNS,
}
_DENIED = "RBAC: access denied"
_FROM_UPSTREAM = "x-envoy-upstream-service-time"
_PROXY = "server: envoy"


def tried(
    cluster: Cluster, foothold: Foothold, doors: Sequence[Door], matrix: Matrix
) -> Iterator[Attempt]:
    """Every door, in both ways; raises `ProbeError`."""
    told = _knocked(cluster, foothold, BARE, {**_RAW, "knocks": [_to(door) for door in doors]})
    for door, answer in zip(doors, told, strict=True):
        why, needed = _by_design(foothold, door, matrix)
        got = bool(answer["connected"])
        said = "connected" if got else str(answer["error"])
        yield _attempt(foothold, RAW, f"reach {door.name}", got, said, why, needed)
    own = [Door(f"its own sidecar:{port}", "127.0.0.1", port) for port in OWN_PORTS]
    every = [*doors, *own]
    told = _knocked(cluster, foothold, CONTAINER, {**_MESH, "knocks": [_say(d) for d in every]})
    for door, answer in zip(every, told, strict=True):
        why, needed = _by_design(foothold, door, matrix)
        got, said = answered(answer)
        needed = needed and bool(door.authority)  # the mesh knows Services, not pods
        yield _attempt(foothold, MESH, f"speak to {door.name}", got, said, why, needed)


def _attempt(
    foothold: Foothold, family: str, what: str, got: bool, told: str, why: str, needed: bool
) -> Attempt:
    return Attempt(str(foothold), family, what, got, told, why if got or needed else "")


def _knocked(cluster: Cluster, foothold: Foothold, container: str, order: Object) -> list[Object]:
    told: list[Object] = run(
        cluster, foothold.pod, "knock", order, _LIMIT_SECONDS, container=container
    )
    if len(told) != len(order["knocks"]):
        raise ProbeError(f"{foothold}: {len(told)} answers to {len(order['knocks'])} knocks")
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
        return "a flow of matrix.yaml", door.served
    if (door.namespace, door.pod_port) in matrix.reached:
        return "an exception of matrix.yaml, which every layer has", door.served
    return "", False
