"""Tenants, and the short-lived signed token that carries one from the guard to retrieval.

The guard mints it after authentication; nothing behind the gateway accepts a tenant from
anywhere else. EdDSA, so that whoever verifies cannot mint.
"""

import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jwt
from pydantic import AfterValidator

HEADER = "x-rag-tenant-token"
AUDIENCE = "rag-retrieval"
ISSUER = "rag-guard"
LIFETIME_SECONDS = 60
LEEWAY_SECONDS = 5
"""How far the clocks of minter and verifier may be apart."""
_KEY = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)
_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?")


class InvalidTenantError(ValueError):
    """The tenant's name is not a DNS label of at most 40 characters."""


class InvalidTokenError(Exception):
    """The tenant token is missing, forged, expired or meant for somebody else."""


def tenant_name(name: str) -> str:
    """`name` itself when it may name a tenant, else `InvalidTenantError`."""
    if not _NAME.fullmatch(name):
        raise InvalidTenantError(
            f"tenant {name!r}: lower-case letters, digits and inner dashes, at most 40, letter first"
        )
    return name


TenantName = Annotated[str, AfterValidator(tenant_name)]


@dataclass(frozen=True, slots=True)
class TenantClaims:
    """Who asks: tenant, user, the request's id and the guard's verdict on the request."""

    tenant: str
    user: str
    request_id: str
    verdict: dict[str, Any]


class TokenMinter:
    """Signs tenant tokens with an Ed25519 private key in PEM, read again for every token."""

    def __init__(self, key_file: Path) -> None:
        self.key_file = key_file

    def mint(self, claims: TenantClaims) -> str:
        """A token that is valid for `LIFETIME_SECONDS`."""
        now = int(time.time())
        payload = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + LIFETIME_SECONDS,
            "jti": claims.request_id,
            "sub": claims.user,
            "tenant": tenant_name(claims.tenant),
            "verdict": claims.verdict,
        }
        return jwt.encode(payload, self.key_file.read_bytes(), algorithm="EdDSA")


class TokenVerifier:
    """Verifies tenant tokens with the Ed25519 public keys of a PEM file, read again for every token.

    Two keys, the old one and the new, while the guard's is rotated.
    """

    def __init__(self, key_file: Path) -> None:
        self.key_file = key_file

    def verify(self, token: str | None) -> TenantClaims:
        """The claims of a valid token; raises `InvalidTokenError` with the reason otherwise."""
        if not token:
            raise InvalidTokenError(f"no {HEADER} header")
        try:
            payload = self._payload(token)
            return TenantClaims(
                tenant_name(payload["tenant"]), payload["sub"], payload["jti"], payload["verdict"]
            )
        except (jwt.InvalidTokenError, InvalidTenantError) as error:
            raise InvalidTokenError(str(error)) from error

    def _payload(self, token: str) -> dict[str, Any]:
        keys = _KEY.findall(self.key_file.read_bytes())
        if not keys:
            raise InvalidTokenError(f"{self.key_file}: no public key in PEM")
        *others, last = keys
        for key in others:
            with suppress(jwt.InvalidSignatureError):
                return _decoded(token, key)
        return _decoded(token, last)


def _decoded(token: str, key: bytes) -> dict[str, Any]:
    payload: dict[str, Any] = jwt.decode(
        token,
        key,
        algorithms=["EdDSA"],
        audience=AUDIENCE,
        issuer=ISSUER,
        leeway=LEEWAY_SECONDS,
        options={"require": ["exp", "iat", "jti", "sub", "tenant", "verdict"]},
    )
    return payload
