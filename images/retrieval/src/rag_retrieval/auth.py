"""Who asks: the signed tenant token, and nothing else."""

from fastapi import Request

from rag_common.files import SecretFileError
from rag_common.problem import Problem
from rag_common.tenancy import HEADER, InvalidTokenError, TenantClaims, TokenVerifier

# The gateway forwards these beside the token; they must say the same as the token.
_MIRRORS = {"x-rag-tenant": "tenant", "x-rag-jwt-tenant": "tenant", "x-rag-user": "user"}


def authenticate(request: Request, verifier: TokenVerifier) -> TenantClaims:
    """The caller's claims; 401 without a valid token, 400 when a tenant is named elsewhere."""
    tokens = request.headers.getlist(HEADER)
    if len(tokens) > 1:
        raise Problem(400, "Ambiguous tenant", f"{HEADER} was sent {len(tokens)} times")
    try:
        claims = verifier.verify(tokens[0] if tokens else None)
    except InvalidTokenError as error:
        raise Problem(401, "Not authenticated", str(error)) from None
    except (OSError, SecretFileError, ValueError):
        raise Problem(503, "Cannot verify", "the tenant token's public key is unreadable") from None
    _refuse_other_tenants(request, claims)
    return claims


def _refuse_other_tenants(request: Request, claims: TenantClaims) -> None:
    for name, value in request.headers.items():
        mirror = _MIRRORS.get(name)
        contradicts = mirror is not None and value != getattr(claims, mirror)
        if contradicts or (mirror is None and "tenant" in name and name != HEADER):
            detail = f"header {name}: the tenant comes from {HEADER} alone"
            raise Problem(400, "Tenant from elsewhere", detail)
    for name in request.query_params:
        if "tenant" in name.lower():
            raise Problem(400, "Tenant from elsewhere", f"query parameter {name} is not allowed")
