"""API keys: only their SHA-256 is kept; the file is read again when it changes."""

import hashlib
import hmac
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rag_common.tenancy import InvalidTenantError, tenant_name


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
    _stamp: tuple[int, int, int] | None = field(default=None, init=False)
    _identities: dict[str, Identity] = field(default_factory=dict, init=False)

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
            status = self.path.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp != self._stamp:
                self._identities = _parse(self.path.read_text(encoding="utf-8"))
                self._stamp = stamp
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            self._stamp = None
            raise KeysFileError(f"{self.path}: {type(error).__name__}") from error
        return self._identities


def _parse(text: str) -> dict[str, Identity]:
    return {digest: _identity(digest, entry) for digest, entry in json.loads(text).items()}


def _identity(digest: str, entry: dict[str, str]) -> Identity:
    if len(digest) != hashlib.sha256().digest_size * 2 or not entry["user"]:
        raise ValueError("not a SHA-256, or no user")
    try:
        return Identity(tenant_name(entry["tenant"]), entry["user"])
    except InvalidTenantError as error:
        raise ValueError(str(error)) from error
