"""A Milvus client whose calls run in threads: the library's asynchronous one lacks what we need."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pymilvus import MilvusClient, MilvusException

from rag_common.files import SecretFileError, read_credentials
from rag_store.base import StoreError, StoreUnavailableError
from rag_store.checks import checked_url, known_tenant
from rag_store.versioned.registry import NotFoundError

PORT = 19530
TIMEOUT_SECONDS = 10.0
PAGE = 1000
PREFIX, REGISTRY = "tenant_", "__registry"
_MISSING = 100  # Milvus's code for a collection or an alias that is not there
_UNREACHABLE = 2


class Milvus:
    """Calls one client; opens it on first use with the login that the file holds then."""

    def __init__(self, open_client: Callable[[], MilvusClient], *, embedded: bool) -> None:
        self._open, self.embedded = open_client, embedded
        self._client: MilvusClient | None = None
        self._lock = asyncio.Lock()

    async def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """What the client's method returns; raises `StoreError` or a subclass."""
        return await self._guarded(lambda client: getattr(client, method)(*args, **kwargs))

    async def _guarded(self, work: Callable[..., Any], *args: Any) -> Any:
        try:
            client = await self._connected()
            return await asyncio.to_thread(work, client, *args)
        except SecretFileError as error:
            raise StoreUnavailableError(f"Milvus: {error}") from error
        except MilvusException as error:
            raise await self._translated(error) from error

    async def _connected(self) -> MilvusClient:
        async with self._lock:
            if self._client is None:
                self._client = await asyncio.to_thread(self._open)
            return self._client

    async def _translated(self, error: MilvusException) -> StoreError:
        reason = f"Milvus: {error.message}"
        if error.code == _MISSING or "not exist" in reason or "not found" in reason:
            return NotFoundError(reason)
        lost = error.code == _UNREACHABLE or "unavailable" in reason.lower()
        if lost or "auth" in reason.lower():
            await self.close()  # the next call reads the credentials again
        return StoreUnavailableError(reason) if lost else StoreError(reason)

    async def close(self) -> None:
        """Close the connection; a later call opens another."""
        if self._client is not None:
            client, self._client = self._client, None
            await asyncio.to_thread(client.close)

    async def rows(
        self, collection: str, condition: str = "", fields: Sequence[str] = ("body",)
    ) -> list[dict[str, Any]]:
        """Every row that meets the condition."""
        found: list[dict[str, Any]] = await self._guarded(
            _all_rows, collection, condition, ["id", *fields]
        )
        return found


def _all_rows(
    client: MilvusClient, collection: str, condition: str, fields: Sequence[str]
) -> list[dict[str, Any]]:
    iterator = client.query_iterator(
        collection, batch_size=PAGE, filter=condition, output_fields=list(fields)
    )
    found: list[dict[str, Any]] = []
    try:
        while page := iterator.next():
            found += page
    finally:
        iterator.close()
    return found


def connect(url: str, credentials_file: Path | None) -> Milvus:
    """`milvus://host:19530` with a login, or `milvus:///path/to/file.db` (Milvus Lite)."""
    parts = urlsplit(checked_url(url))
    if not parts.hostname:
        return Milvus(lambda: MilvusClient(parts.path), embedded=True)
    target = f"http://{parts.hostname}:{parts.port or PORT}"

    def opened() -> MilvusClient:
        if credentials_file is None:
            return MilvusClient(target, timeout=TIMEOUT_SECONDS)
        login = read_credentials(credentials_file)
        return MilvusClient(
            target, user=login.username, password=login.password, timeout=TIMEOUT_SECONDS
        )

    return Milvus(opened, embedded=False)


class Names:
    """Names of a tenant's collections; Milvus allows no dash."""

    def __init__(self, tenant: str) -> None:
        self.tenant = known_tenant(tenant)
        name = PREFIX + tenant.replace("-", "_")
        self.prefix, self.registry, self.active = f"{name}__", name + REGISTRY, f"{name}__active"

    def chunks(self, generation_id: str) -> str:
        """The generation's chunks."""
        if not generation_id.isalnum() or not generation_id.isascii():
            raise StoreError(f"generation {generation_id!r}: no such id")
        return self.prefix + generation_id

    def documents(self, generation_id: str) -> str:
        """The generation's documents."""
        return self.chunks(generation_id) + "__documents"


def key_of(text: str) -> str:
    """A primary key for any text, safe in a filter."""
    return hashlib.sha256(text.encode()).hexdigest()


def one_of(field: str, values: Sequence[str]) -> str:
    """The filter for a field that is one of some hexadecimal values."""
    return f"{field} in {json.dumps(list(values))}"
