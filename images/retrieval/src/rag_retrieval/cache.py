"""Query embeddings for 24 hours in Redis or Valkey; the service works the same without it."""

import hashlib
import logging
import struct
import zlib
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import numpy as np
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import RedisError

from rag_common.embeddings import Embedded
from rag_common.files import SecretFileError, read_credentials
from rag_retrieval.breaker import Breaker
from rag_retrieval.errors import SettingsError
from rag_retrieval.metrics import Metrics

log = logging.getLogger(__name__)
TTL_SECONDS = 24 * 3600
_HEAD = struct.Struct("<4sII")  # magic, CRC-32 of the rest, bytes of the dense vector
_MAGIC = b"RQE1"


class EmbeddingCache(Protocol):
    """Where query embeddings are kept; never raises."""

    async def get(self, key: str) -> Embedded | None:
        """The embedding, or None."""

    async def put(self, key: str, value: Embedded) -> None:
        """Keep it."""

    async def close(self) -> None:
        """Close the connections."""


def cache_key(tenant: str, model_digest: str, query: str) -> str:
    """One tenant's, one model's, one query's; the query itself is not in it."""
    digest = hashlib.sha256(query.encode()).hexdigest()
    return f"rag:query-embedding:{tenant}:{model_digest}:{digest}"


def encode(value: Embedded) -> bytes:
    """The stored form: head, float32 dense vector, packed token vectors."""
    dense = value.dense.astype("<f4").tobytes()
    body = dense + (value.late or b"")
    return _HEAD.pack(_MAGIC, zlib.crc32(body), len(dense)) + body


def decode(data: bytes) -> Embedded | None:
    """The embedding, or None when `data` is not one (another version wrote it, or it is damaged)."""
    if len(data) <= _HEAD.size:
        return None
    magic, crc, size = _HEAD.unpack_from(data)
    if magic != _MAGIC or zlib.crc32(memoryview(data)[_HEAD.size :]) != crc:
        return None
    dense = np.frombuffer(data, "<f4", size // 4, _HEAD.size)
    return Embedded(dense, data[_HEAD.size + size :] or None)


class NoCache:
    """No cache is configured: every look-up misses and is counted as skipped."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def get(self, key: str) -> Embedded | None:
        """None."""
        self._metrics.cache.labels("skipped").inc()
        return None

    async def put(self, key: str, value: Embedded) -> None:
        """Nothing."""

    async def close(self) -> None:
        """Nothing."""


class RedisCache:
    """A cache whose failure is a miss; after three in a row it is left alone for five seconds."""

    def __init__(self, client: Redis, metrics: Metrics, breaker: Breaker) -> None:
        self._client, self._metrics, self._breaker = client, metrics, breaker

    async def get(self, key: str) -> Embedded | None:
        """The embedding, or None when it is absent, damaged or the cache is down."""
        if not self._breaker.allow():
            self._metrics.cache.labels("skipped").inc()
            return None
        try:
            data = await self._client.get(key)
        except (RedisError, OSError, SecretFileError) as error:
            self._failed(error)
            return None
        self._breaker.success()
        value = decode(data) if isinstance(data, bytes) else None
        self._metrics.cache.labels("hit" if value else "miss").inc()
        return value

    async def put(self, key: str, value: Embedded) -> None:
        """Keep it for 24 hours, if the cache is up."""
        if not self._breaker.allow():
            return
        try:
            await self._client.set(key, encode(value), ex=TTL_SECONDS)
            self._breaker.success()
        except (RedisError, OSError, SecretFileError) as error:
            self._failed(error)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _failed(self, error: Exception) -> None:
        self._breaker.failure()
        self._metrics.cache.labels("error").inc()
        log.warning("the embedding cache failed", extra={"reason": f"{type(error).__name__}"})


class _FileCredentials(CredentialProvider):
    """Reads the file for every new connection, so that a rotated password is picked up."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        credentials = read_credentials(self._path)
        name, password = credentials.username, credentials.password
        return (name, password) if name else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials()


def open_cache(
    url: str | None, credentials_file: Path | None, timeout: float, metrics: Metrics
) -> EmbeddingCache:
    """The cache at `redis://host:port/db`, `rediss://…` or `unix:///path`; `timeout` in seconds."""
    if url is None:
        return NoCache(metrics)
    parts = urlsplit(url)
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise SettingsError("CACHE_URL: expected redis://, rediss:// or unix:///path")
    if parts.password or parts.username:
        raise SettingsError("CACHE_URL: has credentials; put them into CACHE_CREDENTIALS_FILE")
    provider = _FileCredentials(credentials_file) if credentials_file else None
    client = Redis.from_url(
        url,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
        credential_provider=provider,
    )
    return RedisCache(client, metrics, Breaker())
