"""Who asks: an API key, or the claims of a JWT that Envoy has verified."""

import re
import uuid
from dataclasses import dataclass

from starlette.datastructures import Headers

from rag_common.problem import Problem
from rag_common.tenancy import InvalidTenantError, tenant_name
from rag_guard.keys import ApiKeys, Identity, KeysFileError

JWT_TENANT, JWT_USER, API_KEY = "x-rag-jwt-tenant", "x-rag-jwt-sub", "x-api-key"
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}")
_USER = re.compile(r"[\x21-\x7e]{1,128}")


def _refused(detail: str) -> Problem:
    challenge = {"www-authenticate": 'Bearer realm="rag"'}
    return Problem(401, "Unauthorized", detail, headers=challenge)


def request_id(headers: Headers) -> str:
    """The caller's request id when it is well-formed, else a new one."""
    given = headers.getlist("x-request-id")
    return given[0] if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]) else str(uuid.uuid4())


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Decides on the headers alone; anything ambiguous is refused."""

    keys: ApiKeys

    def identify(self, headers: Headers) -> Identity:
        """The caller; raises `Problem` 401, 403, or 503 when the keys cannot be read."""
        if "authorization" in headers:  # Envoy takes it away once it has verified it
            raise _refused("only `Authorization: Bearer` with a JWT is understood")
        by_jwt = JWT_TENANT in headers or JWT_USER in headers
        if by_jwt and API_KEY in headers:
            raise _refused("two credentials at once: send an API key or a JWT")
        if by_jwt:
            return _from_claims(headers)
        if API_KEY in headers:
            return self._from_key(headers.getlist(API_KEY))
        raise _refused("send `x-api-key` or `Authorization: Bearer`")

    def _from_key(self, values: list[str]) -> Identity:
        try:
            identity = self.keys.identify(values[0]) if len(values) == 1 else None
        except KeysFileError as error:
            raise Problem(503, "Service unavailable", "API keys cannot be read") from error
        if identity is None:
            raise _refused("the API key is not known")
        return identity


def _from_claims(headers: Headers) -> Identity:
    user = headers.get(JWT_USER, "")
    if not _USER.fullmatch(user):
        raise Problem(403, "Forbidden", "the JWT's `sub` is missing or not printable ASCII")
    try:
        return Identity(tenant_name(headers.get(JWT_TENANT, "")), user)
    except InvalidTenantError as error:
        raise Problem(403, "Forbidden", "the JWT's `tenant` is missing or no tenant") from error
