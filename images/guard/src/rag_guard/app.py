"""The guard's HTTP service: Envoy's authorization calls and the check that retrieval asks for."""

from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Request, Response
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, ConfigDict, Field

from rag_common.ops import install_ops
from rag_common.problem import Problem, install_problem_handlers
from rag_common.tenancy import HEADER, InvalidTenantError, TenantClaims, TokenMinter, tenant_name
from rag_guard.authn import Authenticator, request_id
from rag_guard.body import strings
from rag_guard.checks import Checker, refusal
from rag_guard.classifier import Classifier, Kind, Verdict
from rag_guard.flaglog import FlagLog
from rag_guard.keys import ApiKeys, Identity, KeysFileError
from rag_guard.limits import Limiter
from rag_guard.settings import Settings

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"]
MAX_TEXTS = 128
Text = Annotated[str, Field(max_length=100_000)]


class CheckRequest(BaseModel):
    """Texts to judge, and whether people or documents say them."""

    model_config = ConfigDict(extra="forbid")
    texts: list[Text] = Field(min_length=1, max_length=MAX_TEXTS)
    kind: Kind = "request"


def create_app(
    settings: Settings, classifier: Classifier, limiter: Limiter | None = None
) -> FastAPI:
    """The service; every failure of a part it needs refuses the request."""
    app = FastAPI(title="rag-guard", docs_url=None, redoc_url=None, openapi_url=None)
    registry = CollectorRegistry()
    keys = ApiKeys(settings.guard_api_keys_file)
    authenticator, checker = Authenticator(keys), Checker(classifier, registry)
    minter = TokenMinter(settings.guard_signing_key_file)
    log = FlagLog(settings.guard_flag_log, int(settings.guard_flag_log_mb * 2**20))
    install_problem_handlers(app)

    async def not_ready() -> str | None:
        reason = _not_ready(keys, minter.key_file) or await classifier.not_ready()
        return reason or (await limiter.not_ready() if limiter else None)

    install_ops(app, registry, not_ready)
    if settings.guard_jwks_file:
        _install_jwks(app, settings.guard_jwks_file)
    if limiter:
        _install_limit(app, limiter)

    @app.api_route("/authz/authn{path:path}", methods=METHODS, include_in_schema=False)
    async def authn(request: Request) -> Response:
        tenant, user = authenticator.identify(request.headers)
        identifier = request_id(request.headers)
        return Response(
            headers={"x-rag-tenant": tenant, "x-rag-user": user, "x-request-id": identifier}
        )

    @app.api_route("/authz/guard{path:path}", methods=METHODS, include_in_schema=False)
    async def guard(request: Request) -> Response:
        identity, identifier = _authenticated(request), request_id(request.headers)
        texts = strings(request.headers, await request.body())
        texts += [v for pair in request.query_params.multi_items() for v in pair]
        verdict, text = await checker.worst(texts, "request")
        if verdict.flagged:
            _record(log, verdict, text, identifier, identity)
            raise refusal(verdict)
        claims = TenantClaims(*identity, identifier, verdict.as_dict())
        return Response(headers={HEADER: _mint(minter, claims), "x-request-id": identifier})

    @app.post("/v1/check")
    async def check(body: CheckRequest, request: Request) -> dict[str, list[dict[str, object]]]:
        identifier, whose = request_id(request.headers), _named(request)
        verdicts = await checker.check(body.texts, body.kind)
        for verdict, text in zip(verdicts, body.texts, strict=True):
            if verdict.flagged:
                _record(log, verdict, text, identifier, whose, body.kind)
        return {"verdicts": [verdict.as_dict() for verdict in verdicts]}

    return app


def _install_limit(app: FastAPI, limiter: Limiter) -> None:
    """Between the two other calls: whether the tenant is within its rate."""

    @app.api_route("/authz/limit{path:path}", methods=METHODS, include_in_schema=False)
    async def limit(request: Request) -> Response:
        return Response(headers=await limiter.take(_authenticated(request).tenant))


def _install_jwks(app: FastAPI, file: Path) -> None:
    """The issuer's public keys, for a gateway that has no file of them."""

    @app.get("/jwks", include_in_schema=False)
    def jwks() -> Response:
        try:
            return Response(file.read_bytes(), media_type="application/json")
        except OSError as error:
            raise Problem(503, "Service unavailable", "the issuer's keys cannot be read") from error


def _named(request: Request) -> Identity:
    """For whom a service says that it asks: told to the flag log, and trusted for nothing else."""
    headers = request.headers
    return Identity(headers.get("x-rag-tenant", "")[:40], headers.get("x-rag-user", "")[:128])


def _authenticated(request: Request) -> Identity:
    """What the first call established; its absence means that the gateway is set up wrongly."""
    try:
        tenant = tenant_name(request.headers.get("x-rag-tenant", ""))
    except InvalidTenantError as error:
        raise Problem(403, "Forbidden", "the request was not authenticated") from error
    if not (user := request.headers.get("x-rag-user")):
        raise Problem(403, "Forbidden", "the request was not authenticated")
    return Identity(tenant, user)


def _record(
    log: FlagLog,
    verdict: Verdict,
    text: str,
    identifier: str,
    identity: Identity,
    kind: Kind = "request",
) -> None:
    try:
        log.write(
            verdict,
            text,
            kind=kind,
            request_id=identifier,
            tenant=identity.tenant,
            user=identity.user,
        )
    except OSError as error:
        raise Problem(503, "Service unavailable", "the flag log cannot be written") from error


def _mint(minter: TokenMinter, claims: TenantClaims) -> str:
    try:
        return minter.mint(claims)
    except Exception as error:  # whatever is wrong with the key: nobody passes without a token
        raise Problem(503, "Service unavailable", "tenant tokens cannot be signed") from error


def _not_ready(keys: ApiKeys, signing_key: Path) -> str | None:
    try:
        keys.current()
        signing_key.read_bytes()
    except (KeysFileError, OSError) as error:
        return str(error)
    return None
