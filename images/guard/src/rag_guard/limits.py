"""A tenant's rate, shared by all replicas: what the limits' file declares, counted in Valkey or Redis."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import yaml
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import RedisError

from rag_common.files import SecretFileError, read_credentials
from rag_common.problem import Problem
from rag_guard.watched import WatchedFile

SECONDS = 0.5  # a counter that is slower refuses everybody, and so does one that is gone
_log = logging.getLogger(__name__)
_SCRIPT = files("rag_guard").joinpath("limits.lua").read_text(encoding="utf-8")


class LimitsError(Exception):
    """The limits' file or the address of their counter is missing or malformed."""


class Limit(NamedTuple):
    """Requests a minute, and how many may come at once."""

    requests_per_minute: int
    burst: int


class Taken(NamedTuple):
    """Whether a request was within the rate, how many more would be, seconds until one is and all are."""

    allowed: bool
    remaining: int
    retry_seconds: float
    reset_seconds: float


@dataclass(slots=True)
class Limits:
    """The file `{"default": {"requests_per_minute", "burst"}, "tenants": {name: the same}}` as it is now."""

    path: Path
    _file: WatchedFile[tuple[Limit, dict[str, Limit]]] = field(init=False)

    def __post_init__(self) -> None:
        self._file = WatchedFile(self.path, _limits)

    def of(self, tenant: str) -> Limit:
        """The tenant's limit; raises `LimitsError`."""
        try:
            default, tenants = self._file.current()
        except (OSError, yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise LimitsError(f"{self.path}: {type(error).__name__}: {error}") from error
        return tenants.get(tenant, default)


def _limits(text: str) -> tuple[Limit, dict[str, Limit]]:
    data = yaml.safe_load(text)
    tenants = {name: _limit(entry) for name, entry in (data.get("tenants") or {}).items()}
    return _limit(data["default"]), tenants


def _limit(entry: Mapping[str, Any]) -> Limit:
    limit = Limit(int(entry["requests_per_minute"]), int(entry["burst"]))
    if min(limit) < 1:
        raise ValueError(f"{limit}: rate and burst must be at least 1")
    return limit


class Counter(Protocol):
    """Where tenants' buckets are; raises `RedisError`, `OSError` or `SecretFileError`."""

    async def take(self, tenant: str, limit: Limit) -> Taken:
        """One request of the tenant."""

    async def ping(self) -> None:
        """Raises when it cannot be reached."""


class SharedCounter:
    """The generic cell rate algorithm in one script, by the server's own clock."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._script = client.register_script(_SCRIPT)

    async def take(self, tenant: str, limit: Limit) -> Taken:
        """One request of the tenant."""
        interval = 60_000_000 // limit.requests_per_minute
        found = await self._script(keys=[f"rag:limit:{tenant}"], args=[interval, limit.burst])
        allowed, remaining, retry, reset = map(int, found)
        return Taken(bool(allowed), remaining, retry / 1e6, reset / 1e6)

    async def ping(self) -> None:
        """Raises when it cannot be reached."""
        await self._client.ping()


class _FileCredentials(CredentialProvider):
    """Reads the file for every new connection, so that a rotated password is picked up."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get_credentials(self) -> tuple[str, str]:
        username, password = read_credentials(self._path)
        return username, password


def open_counter(url: str, credentials_file: Path | None) -> SharedCounter:
    """The counter at `redis://host:port/db`, `rediss://…` or `unix:///path`; raises `LimitsError`."""
    if not url.startswith(("redis://", "rediss://", "unix://")) or "@" in url:
        raise LimitsError("GUARD_LIMITS_URL: expected redis://, rediss:// or unix:// and no login")
    client = Redis.from_url(
        url,
        socket_timeout=SECONDS,
        socket_connect_timeout=SECONDS,
        retry=Retry(NoBackoff(), 1),  # a connection that the server closed is opened again, once
        credential_provider=_FileCredentials(credentials_file) if credentials_file else None,
    )
    return SharedCounter(client)


@dataclass(frozen=True, slots=True)
class Limiter:
    """Lets a tenant's requests pass at its rate; when that cannot be told, none."""

    limits: Limits
    counter: Counter

    async def take(self, tenant: str) -> dict[str, str]:
        """The headers that tell the caller where it stands; raises `Problem` 429 or 503."""
        try:
            limit = self.limits.of(tenant)
            taken = await self.counter.take(tenant, limit)
        except (LimitsError, RedisError, OSError, SecretFileError) as error:
            _log.error("a rate could not be checked: %s: %s", type(error).__name__, error)
            detail = "the tenant's rate could not be checked, so the request was refused; try again"
            raise Problem(503, "Service unavailable", detail) from error
        headers = {
            "x-ratelimit-limit": str(limit.burst),
            "x-ratelimit-remaining": str(taken.remaining),
            "x-ratelimit-reset": str(math.ceil(taken.reset_seconds)),
        }
        if not taken.allowed:
            headers["retry-after"] = str(math.ceil(taken.retry_seconds))
            detail = "the tenant is over its rate; see the retry-after and x-ratelimit headers"
            raise Problem(429, "Too many requests", detail, headers=headers)
        return headers

    async def not_ready(self) -> str | None:
        """Why no rate can be checked, or None."""
        try:
            self.limits.of("")
            await self.counter.ping()
        except (LimitsError, RedisError, OSError, SecretFileError) as error:
            return f"limits: {type(error).__name__}: {error}"
        return None
