"""API keys: only their SHA-256 is kept; the file is read again when it changes."""

import hashlib
import hmac
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rag_common.tenancy import InvalidTenantError, tenant_name
from rag_guard.watched import WatchedFile


class KeysFileError(Exception):
    """The file of keys is missing or malformed: nobody can be let in."""


class Identity(NamedTuple):
    """Whom a credential stands for."""

    tenant: str
    user: str


@dataclass(slots=True)
class ApiKeys:
    """The keys of a file `{"<sha256 hex>": {"tenant", "user"}}`."""

    path: Path
    _file: WatchedFile[dict[str, Identity]] = field(init=False)

    def __post_init__(self) -> None:
        self._file = WatchedFile(self.path, _parse)

    def identify(self, key: str) -> Identity | None:
        """Whose `key` is; None when nobody's. Raises `KeysFileError`. Takes the same time for any key."""
        digest = hashlib.sha256(key.encode()).hexdigest()
        found = None
        for known, identity in self.current().items():
            if hmac.compare_digest(known, digest):
                found = identity
        return found

    def current(self) -> dict[str, Identity]:
        """All identities by digest, as the file says now; raises `KeysFileError`."""
        try:
            return self._file.current()
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise KeysFileError(f"{self.path}: {type(error).__name__}") from error


def _parse(text: str) -> dict[str, Identity]:
    return {digest: _identity(digest, entry) for digest, entry in json.loads(text).items()}


def _identity(digest: str, entry: dict[str, str]) -> Identity:
    if len(digest) != hashlib.sha256().digest_size * 2 or not entry["user"]:
        raise ValueError("not a SHA-256, or no user")
    try:
        return Identity(tenant_name(entry["tenant"]), entry["user"])
    except InvalidTenantError as error:
        raise ValueError(str(error)) from error
