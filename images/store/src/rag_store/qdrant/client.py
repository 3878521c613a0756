"""Connecting to Qdrant, naming its collections, translating its errors."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from qdrant_client import AsyncQdrantClient
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from rag_common.files import SecretFileError, read_credentials
from rag_store.base import StoreError, StoreUnavailableError
from rag_store.checks import checked_url, known_tenant
from rag_store.versioned.registry import NotFoundError

PORT = 6333
TIMEOUT_SECONDS = 10
REGISTRY = "__registry"


def connect(url: str, credentials_file: Path) -> AsyncQdrantClient:
    """A client whose API key (or JWT) is the file's password, read again for every request."""
    parts = urlsplit(checked_url(url))
    scheme = "https" if parts.scheme == "qdrants" else "http"
    host = parts.hostname or "localhost"
    host = f"[{host}]" if ":" in host else host
    with warnings.catch_warnings():
        # Plain HTTP is for a mesh that encrypts, or for this machine.
        warnings.filterwarnings("ignore", message="Auth token provider is used with an insecure")
        return AsyncQdrantClient(
            url=f"{scheme}://{host}:{parts.port or PORT}",
            auth_token_provider=lambda: read_credentials(credentials_file).password,
            timeout=TIMEOUT_SECONDS,
            check_compatibility=False,
        )


@dataclass(frozen=True, slots=True)
class Names:
    """Names of a tenant's collections. A tenant's own name has no underscore."""

    tenant: str

    @property
    def prefix(self) -> str:
        """What the names of all of them begin with."""
        return f"{known_tenant(self.tenant)}__"

    @property
    def registry(self) -> str:
        """The collection of small records."""
        return known_tenant(self.tenant) + REGISTRY

    @property
    def active(self) -> str:
        """The alias of the active generation's chunks."""
        return f"{self.prefix}active"

    def chunks(self, generation_id: str) -> str:
        """The generation's chunks."""
        return f"{self.prefix}{generation_id}"

    def documents(self, generation_id: str) -> str:
        """The generation's documents, which say what version of their chunks is valid."""
        return f"{self.chunks(generation_id)}__documents"


@contextmanager
def translated() -> Iterator[None]:
    """Raise `StoreError` or a subclass for whatever Qdrant reports inside."""
    try:
        yield
    except (ResponseHandlingException, SecretFileError) as error:
        cause = error.source if isinstance(error, ResponseHandlingException) else error
        reason = str(cause) or type(cause).__name__
        raise StoreUnavailableError(f"Qdrant: {reason}") from error
    except UnexpectedResponse as error:
        raise _for_status(error) from error
    except ValueError as error:  # how the client's local mode reports a missing collection
        if "not found" not in str(error):
            raise StoreError(f"Qdrant: {error}") from error
        raise NotFoundError(str(error)) from error


async def create_collection(client: AsyncQdrantClient, name: str, **options: Any) -> None:
    """Make a collection unless it is there."""
    with translated():
        if await client.collection_exists(name):
            return
        try:
            await client.create_collection(name, **options)
        except UnexpectedResponse as error:
            if error.status_code != 409:  # somebody else was faster
                raise


def _for_status(error: UnexpectedResponse) -> StoreError:
    status = error.status_code or 0
    reason = f"Qdrant: HTTP {status} {error.content.decode(errors='replace')[:200]}"
    if status == 404:
        return NotFoundError(reason)
    if status >= 500 or status in (408, 429):
        return StoreUnavailableError(reason)
    return StoreError(reason)
