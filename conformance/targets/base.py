"""How the suite reaches what it judges: protocols only, so a layer may be swapped behind its URL."""

import subprocess
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import httpx
import psycopg

from rag_store.base import StoreAdmin, VectorStore

if TYPE_CHECKING:
    from conformance.targets.kube.client import Cluster


@dataclass(frozen=True, slots=True)
class Schedule:
    """A source that the platform itself keeps in a tenant's index, every so many seconds."""

    tenant: str
    source: str
    every_seconds: float


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What the gateway allows a tenant: so many at once, and so many a minute."""

    requests_per_minute: float
    burst: int


@dataclass(frozen=True, slots=True)
class Description:
    """`target.json`, see docs/interfaces.md; paths are absolute."""

    environment: str
    gateway_url: str = ""
    retrieval_url: str = ""
    embedding_url: str = ""
    guard_url: str = ""
    vector_db_url: str = ""
    llm_url: str = ""
    kubeconfig: Path | None = None
    revision: str = ""  # of Git, that is judged; else what the cluster's own sync shows
    credentials: Mapping[str, Path] = field(default_factory=dict)
    api_keys: Mapping[str, Path] = field(default_factory=dict)
    jwt_signing_key: Path | None = None
    tenant_signing_key: Path | None = None
    audit_dir: Path | None = None
    flag_log: Path | None = None
    access_log: Path | None = None
    supervisor: str = ""
    schedule: Schedule | None = None
    rate_limits: Mapping[str, RateLimit] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


class Processes(Protocol):
    """The platform's processes. Every method raises `ProbeError` when it could not do it."""

    def names(self) -> list[str]:
        """Names of the programs."""

    def wait_ready(self, name: str, seconds: float = 120) -> None:
        """Wait until the program answers on its endpoint, readiness included."""

    def stop(self, name: str) -> None:
        """Stop a program and wait until it is gone."""

    def start(self, name: str) -> None:
        """Start a program and wait until it answers ready."""

    def restart(self, name: str) -> None:
        """Stop, then start."""

    def stopped(self, *names: str) -> AbstractContextManager[None]:
        """The programs are down inside the block and running and ready after it."""

    def kill(self, name: str) -> None:
        """End a running program with SIGKILL; whoever keeps it running brings it back."""

    def reconfigured(self, name: str, **settings: str) -> AbstractContextManager[None]:
        """Inside the block the program runs with `settings` in its environment, and is ready."""

    def replaced(self, name: str, application: Any) -> AbstractContextManager[None]:
        """Inside the block an ASGI `application` answers on the endpoint of program `name`."""

    def fronted(self, name: str, application: Callable[[str], Any]) -> AbstractContextManager[None]:
        """Inside the block `application(url)` answers there, and the program itself at `url`."""

    def stand_in(self, name: str, application: Any) -> AbstractContextManager[str]:
        """The URL inside the block of an ASGI `application` that program `name`'s callers reach."""


class Target(Protocol):
    """A running platform. Whatever cannot be reached raises `ProbeError` or an httpx error."""

    @property
    def description(self) -> Description:
        """The fields of `target.json`."""

    @property
    def environment(self) -> str:
        """The environment's name; picks the SLO file."""

    @property
    def cluster(self) -> "Cluster":
        """The Kubernetes cluster; raises `ProbeError` when there is none."""

    @property
    def processes(self) -> Processes:
        """Control of the platform's processes."""

    def gateway(self, tenant: str | None, *, timeout: float = 120) -> httpx.Client:
        """A client of the gateway as `tenant` (API key, else a JWT); None sends no credential."""

    def outside(self) -> str:
        """The gateway's URL for clients outside; '' where only the suite's own door leads in."""

    def gateway_async(self, tenant: str | None, *, timeout: float = 120) -> httpx.AsyncClient:
        """The same, asynchronous."""

    def retrieval(self, tenant: str, *, timeout: float = 60) -> httpx.Client:
        """A client straight to retrieval with a fresh tenant token for each request."""

    def retrieval_async(self, tenant: str, *, timeout: float = 60) -> httpx.AsyncClient:
        """The same, asynchronous."""

    def embedding(self, *, timeout: float = 60) -> httpx.Client:
        """A client of the embedding service."""

    def guard(self, *, timeout: float = 30) -> httpx.Client:
        """A client of the guard."""

    def llm(self, *, timeout: float = 120) -> httpx.Client:
        """A client of the LLM server."""

    def api_key(self, tenant: str) -> str:
        """The tenant's API key."""

    def jwt(self, tenant: str, /, user: str = "conformance", **claims: Any) -> str:
        """A JWT signed with the issuer's key; `claims` override or add (None removes one)."""

    def tenant_token(self, tenant: str, user: str = "conformance", request_id: str = "") -> str:
        """A tenant token as the guard would mint it."""

    def rate_limit(self, tenant: str) -> RateLimit:
        """What the gateway is declared to allow the tenant."""

    def sql(self, login: str) -> psycopg.Connection[tuple[Any, ...]]:
        """An autocommit SQL connection as login `reader`, `writer` or `admin`."""

    def store(self, login: str) -> VectorStore:
        """The vector store as login `reader` or `writer`."""

    def store_admin(self) -> StoreAdmin:
        """Tenant onboarding."""

    def ingest(self, folder: Path, tenant: str, **environment: str) -> Mapping[str, Any]:
        """Run the real `rag-ingest` on `folder` and return its JSON summary."""

    def schedule(self) -> Schedule:
        """The declared schedule of the ingestion."""

    def scheduled_document(self, name: str, text: str) -> AbstractContextManager[None]:
        """Inside the block the scheduled source holds a document; nobody starts a sync."""

    def start_ingest(self, folder: Path, tenant: str) -> "subprocess.Popen[bytes]":
        """The real `rag-ingest` on `folder`, running; the caller ends it."""

    def audit_unwritable(self) -> AbstractContextManager[None]:
        """Inside the block no audit record can be made durable: a full disk, a log that is down."""

    def audit_records(
        self, since: datetime | None = None, *, settle: bool = True
    ) -> list[dict[str, Any]]:
        """All audit records so far; of a cluster those from `since`, or this run's beginning, on.

        To `settle` is to wait first until all that was logged is indexed; raises `ProbeError` if not.
        """

    def flagged(self) -> list[dict[str, Any]]:
        """The guard's flag log."""

    def access_records(self) -> list[dict[str, Any]]:
        """The gateway's access log."""

    def gateway_filters(
        self, change: Callable[[list[dict[str, Any]]], None]
    ) -> AbstractContextManager[None]:
        """Inside the block the gateway runs with its HTTP filters changed in place by `change`."""

    def metrics(self, service: str) -> Mapping[str, float]:
        """A service's Prometheus samples by `name` or `name{label="value",…}`."""
