"""A tenant's registry: small records by key, in a collection of their own."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from rag_store.base import StoreError, UnknownTenantError
from rag_store.versioned.records import Payload


class NotFoundError(StoreError):
    """A collection or an alias is not there: the caller knows whether tenant or generation is."""


class Registry(Protocol):
    """Every tenant's registry. Each method raises `UnknownTenantError` where there is none."""

    async def read(self, tenant: str) -> dict[str, Payload]:
        """All of its records by key, as last written."""

    async def put(self, tenant: str, key: str, body: Mapping[str, Any]) -> None:
        """Write one, or write it anew."""

    async def remove(self, tenant: str, key: str) -> None:
        """Remove one. An unknown key is ignored."""


@contextmanager
def registry_of(tenant: str) -> Iterator[None]:
    """A registry that is not there is a tenant that is not there."""
    try:
        yield
    except NotFoundError as error:
        raise UnknownTenantError(f"tenant {tenant!r} has not been provisioned") from error
