"""Acting as somebody else: forged tenant tokens at retrieval, and the guard asked to sign one."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from conformance.gate import ProbeError
from conformance.gates.intelligence._compromise.attempts import Attempt
from conformance.gates.intelligence._compromise.footholds import Foothold
from conformance.gates.intelligence._compromise.network import answered
from conformance.probes.cluster import Cluster, Object
from conformance.probes.cluster.dialling import run
from rag_common.tenancy import AUDIENCE, HEADER, ISSUER

FAMILY = "identity"
_ORDER = {"seconds": 3.0, "attempts": 1, "reply_seconds": 12, "most": 4096}
_LIMIT_SECONDS = 60.0
_RETRIEVAL = ("retrieval.rag-retrieval.svc.cluster.local", 8080)
_GUARD = ("guard.rag-gateway.svc.cluster.local", 8083)
_QUESTION = {"query": "How long is the notice period?"}
_REFUSED = (400, 401, 403)


def forged(tenant: str) -> dict[str, str]:
    """Tenant tokens that nobody should take, by how they were made."""
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + 60,
        "jti": "rag-conformance",
        "sub": "intruder",
        "tenant": tenant,
        "verdict": {"flagged": False},
    }
    own = Ed25519PrivateKey.generate()
    return {
        "signed with its own key": jwt.encode(claims, own, algorithm="EdDSA"),
        "signed with a password": jwt.encode(claims, "s" * 32, algorithm="HS256"),
        "not signed": jwt.encode(claims, "", algorithm="none"),
    }


def tried(cluster: Cluster, foothold: Foothold, tenant: str) -> Iterator[Attempt]:
    """Every forged identity; then one that the guard signed, if it did. Raises `ProbeError`."""
    asked = [*_at_retrieval(tenant), *_at_guard(tenant)]
    told = _asked(cluster, foothold, [(to, headers, path) for _, to, headers, path in asked])
    minted = ""
    for (what, _, _, _), answer in zip(asked, told, strict=True):
        got, said = accepted(answer)
        minted = minted or _token(answer)
        yield Attempt(str(foothold), FAMILY, what, got, said)
    what = "read as a tenant by a token that the guard signed for it"
    if not minted:
        yield Attempt(str(foothold), FAMILY, what, False, "the guard signed none")
        return
    (answer,) = _asked(cluster, foothold, [(_RETRIEVAL, {HEADER: minted}, "/v1/retrieve")])
    got, said = accepted(answer)
    yield Attempt(str(foothold), FAMILY, what, got, said)


_Ask = tuple[str, tuple[str, int], dict[str, str], str]


def _at_retrieval(tenant: str) -> Iterator[_Ask]:
    yield "read without a tenant token", _RETRIEVAL, {}, "/v1/retrieve"
    for name in ("x-tenant", "x-rag-tenant"):
        yield f"read by the header {name}", _RETRIEVAL, {name: tenant}, "/v1/retrieve"
    for how, token in forged(tenant).items():
        yield f"read by a token {how}", _RETRIEVAL, {HEADER: token}, "/v1/retrieve"


def _at_guard(tenant: str) -> Iterator[_Ask]:
    who = {"x-rag-tenant": tenant, "x-rag-user": "intruder"}
    yield "have the guard sign a tenant token", _GUARD, who, "/authz/guard/v1/retrieve"
    claims = {"x-rag-jwt-tenant": tenant, "x-rag-jwt-sub": "intruder"}
    yield "be taken for a tenant by the guard", _GUARD, claims, "/authz/authn/v1/retrieve"
    yield "use up a tenant's rate", _GUARD, who, "/authz/limit/v1/retrieve"
    yield "have the guard judge a text", _GUARD, {}, "/v1/check"


def _asked(
    cluster: Cluster,
    foothold: Foothold,
    requests: Sequence[tuple[tuple[str, int], dict[str, str], str]],
) -> list[Object]:
    knocks = [
        {"host": host, "port": port, "hello": _request(host, port, path, headers).hex()}
        for (host, port), headers, path in requests
    ]
    told: list[Object] = run(
        cluster, foothold.pod, "knock", {**_ORDER, "knocks": knocks}, _LIMIT_SECONDS
    )
    if len(told) != len(knocks):
        raise ProbeError(f"{foothold}: {len(told)} answers to {len(knocks)} requests")
    return told


def _request(host: str, port: int, path: str, headers: Mapping[str, str]) -> bytes:
    body = json.dumps({"texts": ["hello"]} if path == "/v1/check" else _QUESTION)
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {host}:{port}",
        "Connection: close",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def accepted(answer: Object) -> tuple[bool, str]:
    """Whether the service took the identity, and how its answer begins."""
    reached, told = answered(answer)
    if not reached:
        return False, told
    status = int(told.split()[1]) if told.startswith("HTTP/") else 0
    return status not in _REFUSED, told


def _token(answer: Object) -> str:
    head = str(answer["reply"]).partition("\r\n\r\n")[0]
    pairs = [line.partition(": ") for line in head.splitlines()]
    return next((value for name, _, value in pairs if name.lower() == HEADER), "")
