"""Clients of a platform's services, and the real ingestion, over the URLs and files of a description."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import jwt
import psycopg

from conformance.gate import ProbeError
from conformance.targets import http
from conformance.targets.base import Description, RateLimit, Schedule
from rag_common.files import SecretFileError, read_credentials, read_secret
from rag_common.tenancy import HEADER, TenantClaims, TokenMinter
from rag_store.base import StoreAdmin, VectorStore

JWT_LIFETIME_SECONDS = 300
INGEST_TIMEOUT_SECONDS = 1800
HELD_SECONDS = 300.0  # how long another sync of the same index is waited for
_HELD, _AGAIN_SECONDS = 3, 2.0  # the exit code that tells of one


class Services:
    """Implements what `targets.base.Target` has in common wherever the platform runs."""

    description: Description

    def gateway(self, tenant: str | None, *, timeout: float = 120) -> httpx.Client:
        """A client of the gateway as `tenant` (API key, else a JWT); None sends no credential."""
        return http.client(self.description.gateway_url, timeout, self._edge_auth(tenant))

    def outside(self) -> str:
        """The gateway's URL for clients, or '' where they have none."""
        return self.description.gateway_url

    def gateway_async(self, tenant: str | None, *, timeout: float = 120) -> httpx.AsyncClient:
        """The same, asynchronous."""
        return http.async_client(self.description.gateway_url, timeout, self._edge_auth(tenant))

    def retrieval(self, tenant: str, *, timeout: float = 60) -> httpx.Client:
        """A client straight to retrieval with a fresh tenant token for each request."""
        return http.client(self.description.retrieval_url, timeout, self._tenant_auth(tenant))

    def retrieval_async(self, tenant: str, *, timeout: float = 60) -> httpx.AsyncClient:
        """The same, asynchronous."""
        return http.async_client(self.description.retrieval_url, timeout, self._tenant_auth(tenant))

    def embedding(self, *, timeout: float = 60) -> httpx.Client:
        """A client of the embedding service."""
        return http.client(self.description.embedding_url, timeout)

    def guard(self, *, timeout: float = 30) -> httpx.Client:
        """A client of the guard."""
        return http.client(self.description.guard_url, timeout)

    def llm(self, *, timeout: float = 120) -> httpx.Client:
        """A client of the LLM server."""
        if not self.description.llm_url:
            raise ProbeError("the target names no llm_url")
        return http.client(self.description.llm_url, timeout)

    def _edge_auth(self, tenant: str | None) -> httpx.Auth | None:
        if tenant is None:
            return None
        if tenant in self.description.api_keys:
            return http.HeaderAuth("x-api-key", lambda: self.api_key(tenant))
        return http.HeaderAuth("authorization", lambda: f"Bearer {self.jwt(tenant)}")

    def _tenant_auth(self, tenant: str) -> httpx.Auth:
        return http.HeaderAuth(HEADER, lambda: self.tenant_token(tenant))

    def api_key(self, tenant: str) -> str:
        """The tenant's API key."""
        return self._secret(self.description.api_keys, tenant, "api_keys")

    def _secret(self, files: Mapping[str, Path], name: str, what: str) -> str:
        if name not in files:
            raise ProbeError(f"the target has no {what}.{name}")
        try:
            return read_secret(files[name])
        except SecretFileError as error:
            raise ProbeError(str(error)) from error

    def _key(self, name: str) -> Path:
        path: Path | None = getattr(self.description, name)
        if path is None or not path.is_file():
            raise ProbeError(f"the target has no {name}: {path}")
        return path

    def jwt(self, tenant: str, /, user: str = "conformance", **claims: Any) -> str:
        """A JWT signed with the issuer's key; `claims` override or add (None removes one)."""
        now = int(time.time())
        issued = self._jwt_settings()
        payload: dict[str, Any] = {
            "iss": issued.get("jwt_issuer", "rag-local"),
            "aud": issued.get("jwt_audience", "rag-gateway"),
            "sub": user,
            "tenant": tenant,
            "iat": now,
            "exp": now + JWT_LIFETIME_SECONDS,
        }
        payload = {k: v for k, v in (payload | claims).items() if v is not None}
        algorithm = issued.get("jwt_algorithm", "EdDSA")
        headers = {"kid": issued["jwt_key_id"]} if "jwt_key_id" in issued else None
        key = self._key("jwt_signing_key").read_bytes()
        return jwt.encode(payload, key, algorithm=algorithm, headers=headers)

    def _jwt_settings(self) -> Mapping[str, Any]:
        return self.description.extra

    def tenant_token(self, tenant: str, user: str = "conformance", request_id: str = "") -> str:
        """A tenant token as the guard would mint it."""
        minter = TokenMinter(self._key("tenant_signing_key"))
        verdict = {"flagged": False, "rule": None, "score": 0.0}
        identity = request_id or http.new_request_id()
        return minter.mint(TenantClaims(tenant, user, identity, verdict))

    def _credentials_file(self, login: str) -> Path:
        if login not in self.description.credentials:
            raise ProbeError(f"the target has no credentials.{login}")
        return self.description.credentials[login]

    def rate_limit(self, tenant: str) -> RateLimit:
        """What the gateway is declared to allow the tenant."""
        if tenant not in self.description.rate_limits:
            raise ProbeError(f"the target declares no rate_limits.{tenant}")
        return self.description.rate_limits[tenant]

    def sql(self, login: str) -> psycopg.Connection[tuple[Any, ...]]:
        """An autocommit SQL connection as login `reader`, `writer` or `admin`."""
        url = self.description.vector_db_url
        if not url.startswith("postgresql:"):
            raise ProbeError(f"SQL needs PostgreSQL, the store is {url.partition(':')[0]}")
        try:
            who = read_credentials(self._credentials_file(login))
            return psycopg.connect(
                url, user=who.username, password=who.password, autocommit=True, connect_timeout=10
            )
        except (SecretFileError, psycopg.OperationalError) as error:
            raise ProbeError(f"SQL as {login}: {error}") from error

    def store(self, login: str) -> VectorStore:
        """The vector store as login `reader` or `writer`."""
        from rag_store import open_store

        return open_store(self.description.vector_db_url, self._credentials_file(login))

    def store_admin(self) -> StoreAdmin:
        """Tenant onboarding."""
        from rag_store import open_admin

        return open_admin(self.description.vector_db_url, self._credentials_file("admin"))

    def ingest(self, folder: Path, tenant: str, **environment: str) -> Mapping[str, Any]:
        """Run the real `rag-ingest` on `folder` and return its JSON summary."""
        with tempfile.TemporaryDirectory(prefix="conformance-") as scratch:
            summary = Path(scratch) / "summary.json"
            command = [_ingest(), str(folder), "--tenant", tenant, "--json", str(summary)]
            settings = {**os.environ, **self.ingest_environment(), **environment}
            done, until = self._run(command, settings), time.monotonic() + HELD_SECONDS
            while done.returncode == _HELD and time.monotonic() < until:
                time.sleep(_AGAIN_SECONDS)
                done = self._run(command, settings)
            if done.returncode != 0:
                tail = " | ".join(done.stderr.strip().splitlines()[-3:])
                raise ProbeError(f"rag-ingest exited with {done.returncode}: {tail}")
            result: dict[str, Any] = json.loads(summary.read_text(encoding="utf-8"))
            return result

    def schedule(self) -> Schedule:
        """The declared schedule of the ingestion."""
        if self.description.schedule is None:
            raise ProbeError("the target declares no schedule: nothing keeps its index fresh")
        return self.description.schedule

    def start_ingest(self, folder: Path, tenant: str) -> subprocess.Popen[bytes]:
        """The real `rag-ingest` on `folder`, running; the caller ends it."""
        return subprocess.Popen(  # noqa: S603 - our own program
            [_ingest(), str(folder), "--tenant", tenant],
            env={**os.environ, **self.ingest_environment()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def ingest_environment(self) -> dict[str, str]:
        """The settings that `rag-ingest` needs to fill this platform's index."""
        return {
            "EMBEDDING_URL": self.description.embedding_url,
            "VECTOR_DB_URL": self.description.vector_db_url,
            "VECTOR_DB_CREDENTIALS_FILE": str(self._credentials_file("writer")),
        }

    def _run(
        self, command: list[str], environment: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(  # noqa: S603 - our own program
                command,
                env=environment,
                capture_output=True,
                text=True,
                timeout=INGEST_TIMEOUT_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ProbeError(f"{command[0]}: {error}") from error


def _ingest() -> str:
    beside = Path(sys.executable).with_name("rag-ingest")
    found = str(beside) if beside.exists() else shutil.which("rag-ingest")
    if not found:
        raise ProbeError("rag-ingest is not installed beside this Python nor on the PATH")
    return found
