"""gateway-auth: who has no valid credential gets nothing; who has one is served."""

import base64
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from conformance.corpora.prepare import TENANT, prepared
from conformance.gate import Context, Fault, Gate, Observation, Phase, ProbeError
from conformance.stats import share
from conformance.targets.base import Target
from conformance.targets.edge_faults import (
    gateway_changed,
    guard_that_lets_everybody_in,
    without_filter,
)
from conformance.targets.http import client

PATH = "/v1/retrieve"
BODY = {"query": "What is the travel policy?"}
Headers = dict[str, str]


class Attempt(NamedTuple):
    """One request, and whether it has to be let in."""

    way: str
    headers: Callable[[Target], Headers]
    let_in: bool = False
    direct: bool = False


def _bearer(token: str) -> Headers:
    return {"authorization": f"Bearer {token}"}


def _resigned(token: str) -> str:
    """The same claims and header, signed by somebody else."""
    claims = jwt.decode(token, options={"verify_signature": False})
    kid = jwt.get_unverified_header(token)
    kid.pop("alg")
    return jwt.encode(claims, Ed25519PrivateKey.generate(), algorithm="EdDSA", headers=kid)


def _unsigned(token: str) -> str:
    head = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    return f"{head}.{token.split('.')[1]}."


def _past() -> int:
    return int(time.time()) - 3600


ATTEMPTS = (
    Attempt("API key", lambda t: {"x-api-key": t.api_key(TENANT)}, let_in=True),
    Attempt("JWT", lambda t: _bearer(t.jwt(TENANT)), let_in=True),
    Attempt("no credential", lambda _: {}),
    Attempt("unknown API key", lambda _: {"x-api-key": "no-such-key"}),
    Attempt("expired JWT", lambda t: _bearer(t.jwt(TENANT, exp=_past()))),
    Attempt("JWT without expiry", lambda t: _bearer(t.jwt(TENANT, exp=None))),
    Attempt("JWT of another issuer", lambda t: _bearer(t.jwt(TENANT, iss="somebody-else"))),
    Attempt("JWT for another audience", lambda t: _bearer(t.jwt(TENANT, aud="somebody-else"))),
    Attempt("JWT without tenant", lambda t: _bearer(t.jwt(TENANT, tenant=None))),
    Attempt("JWT of a foreign key", lambda t: _bearer(_resigned(t.jwt(TENANT)))),
    Attempt("JWT with alg none", lambda t: _bearer(_unsigned(t.jwt(TENANT)))),
    Attempt(
        "two credentials",
        lambda t: _bearer(t.jwt(TENANT)) | {"x-api-key": t.api_key(TENANT)},
    ),
    Attempt("forged tenant header", lambda _: {"x-rag-tenant": TENANT, "x-rag-user": "root"}),
    Attempt(
        "forged claims headers", lambda _: {"x-rag-jwt-tenant": TENANT, "x-rag-jwt-sub": "root"}
    ),
    Attempt(
        "tenant token at the gateway", lambda t: {"x-rag-tenant-token": t.tenant_token(TENANT)}
    ),
    Attempt("straight to retrieval", lambda _: {}, direct=True),
    Attempt(
        "straight to retrieval, token of a foreign key",
        lambda t: {"x-rag-tenant-token": _resigned(t.tenant_token(TENANT))},
        direct=True,
    ),
)


def _try(target: Target, attempt: Attempt) -> int:
    described = target.description
    url = described.retrieval_url if attempt.direct else described.gateway_url
    try:
        with client(url, 30) as session:
            return session.post(PATH, json=BODY, headers=attempt.headers(target)).status_code
    except httpx.HTTPError as error:
        raise ProbeError(f"{attempt.way}: {type(error).__name__}: {error}") from error


def measure(context: Context) -> Observation:
    """The shares of wrong credentials refused and of valid ones served."""
    prepared(context)
    statuses: list[tuple[Attempt, int]] = []
    for done, attempt in enumerate(ATTEMPTS, 1):
        statuses.append((attempt, _try(context.target, attempt)))
        context.progress(done, len(ATTEMPTS), attempt.way)
    rows = [{"way": a.way, "let_in": a.let_in, "status": s} for a, s in statuses]
    context.evidence.write("attempts.jsonl", rows)
    refused = [s in {401, 403} for a, s in statuses if not a.let_in]
    accepted = [s == httpx.codes.OK for a, s in statuses if a.let_in]
    return Observation(
        {
            "refused_share": share(sum(refused), len(refused)),
            "accepted_share": share(sum(accepted), len(accepted)),
        },
        notes=[
            f"{a.way}: HTTP {s}"
            for a, s in statuses
            if (s != httpx.codes.OK if a.let_in else s not in {401, 403})
        ],
    )


@contextmanager
def _open_guard(context: Context) -> Iterator[None]:
    with guard_that_lets_everybody_in(context.target, TENANT):
        yield


@contextmanager
def _no_jwt(context: Context) -> Iterator[None]:
    with gateway_changed(context.target, without_filter("envoy.filters.http.jwt_authn")):
        yield


GATE = Gate(
    id="gateway-auth",
    phase=Phase.INTELLIGENCE,
    title="Authentication at the gateway",
    promise="Only a valid API key or JWT is served; everything else is refused.",
    measure=measure,
    faults=(
        Fault("a guard that lets everybody in", _open_guard),
        Fault("a gateway that does not verify JWTs", _no_jwt),
    ),
)
