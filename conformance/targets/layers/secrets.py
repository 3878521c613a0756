"""The suite's own keys and logins: files that target.json names, else the vault's, in memory."""

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

from conformance.targets.base import Description
from conformance.targets.layers.memory import MemoryFile
from conformance.targets.layers.vault import Vault

_FIELDS = {"jwt_signing_key": "jwt-signing-key", "tenant_signing_key": "tenant-signing-key"}


class Secrets:
    """Paths of secrets, read anew from the vault for each use, so that rotation works."""

    def __init__(self, description: Description, vault: Vault) -> None:
        self.description, self.vault = description, vault
        self._files: dict[str, MemoryFile] = {}

    def _kept(self, name: str, text: str) -> Path:
        if name not in self._files:
            self._files[name] = MemoryFile(name)
        return self._files[name].write(text)

    def credentials(self, login: str) -> Path:
        """`{"username", "password"}` of login `reader`, `writer` or `admin`; raises `ProbeError`."""
        if login in self.description.credentials:
            return self.description.credentials[login]
        who = self.vault.login(f"rag-{login}")
        return self._kept(login, json.dumps(who))

    def key(self, name: str) -> Path:
        """The PEM file of `jwt_signing_key` or `tenant_signing_key`; raises `ProbeError`."""
        named: Path | None = getattr(self.description, name)
        return named or self._kept(name, str(self.vault.secret(_FIELDS[name])["key"]))

    @cached_property
    def api_keys(self) -> "ApiKeys":
        """The first key of each tenant."""
        return ApiKeys(self, self.description.api_keys, "")

    @cached_property
    def second_api_keys(self) -> "ApiKeys":
        """Another key of a tenant: its limit is the tenant's, whichever is used."""
        named = self.description.extra.get("second_api_keys", {})
        return ApiKeys(self, {k: Path(v) for k, v in named.items()}, ".2")

    def kept_api_key(self, field: str) -> Path | None:
        """The key that the vault has under a name, or None; raises `ProbeError`."""
        text = self.vault.secret("api-keys").get(field)
        return self._kept(f"api-key-{field}", str(text)) if text else None


class ApiKeys(Mapping[str, Path]):
    """Files of API keys by tenant; those that target.json does not name are the vault's."""

    def __init__(self, secrets: Secrets, named: Mapping[str, Path], suffix: str) -> None:
        self.secrets, self.named, self.suffix = secrets, named, suffix

    def __getitem__(self, tenant: str) -> Path:
        """The tenant's; raises `KeyError` when there is none, `ProbeError` when it cannot be read."""
        if tenant in self.named:
            return self.named[tenant]
        if found := self.secrets.kept_api_key(tenant + self.suffix):
            return found
        raise KeyError(tenant)

    def __iter__(self) -> Iterator[str]:
        """The tenants that target.json names: the vault's are not listed."""
        return iter(self.named)

    def __len__(self) -> int:
        """How many those are."""
        return len(self.named)
