"""Who asks: the signed tenant token, and nothing else."""

from fastapi import Request

from rag_common.files import SecretFileError
from rag_common.problem import Problem
from rag_common.tenancy import HEADER, InvalidTokenError, TenantClaims, TokenVerifier


def authenticate(request: Request, verifier: TokenVerifier) -> TenantClaims:
    """The caller's claims; 401 without a valid token, 400 when tenant or user is named elsewhere."""
    tokens = request.headers.getlist(HEADER)
    if len(tokens) > 1:
        raise Problem(400, "Ambiguous tenant", f"{HEADER} was sent {len(tokens)} times")
    try:
        claims = verifier.verify(tokens[0] if tokens else None)
    except InvalidTokenError as error:
        raise Problem(401, "Not authenticated", str(error)) from None
    except (OSError, SecretFileError, ValueError):
        raise Problem(503, "Cannot verify", "the tenant token's public key is unreadable") from None
    _refuse_other_tenants(request)
    return claims


def _refuse_other_tenants(request: Request) -> None:
    for name in request.headers:  # the gateway takes away its own `x-rag-…` ones
        if name == "x-rag-user" or ("tenant" in name and name != HEADER):
            detail = f"header {name}: tenant and user come from {HEADER} alone"
            raise Problem(400, "Tenant from elsewhere", detail)
    for name in request.query_params:
        if "tenant" in name.lower():
            raise Problem(400, "Tenant from elsewhere", f"query parameter {name} is not allowed")
