"""The local platform's keys and credentials: made once, kept in files of mode 0600."""

import hashlib
import json
import secrets as tokens
from collections.abc import Iterable
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rag_common.files import read_secret, write_atomic
from ragctl import edge
from ragctl.tenants import Tenant

LOGINS = ("rag_reader", "rag_writer", "rag_admin")


class Keys:
    """The secret files under `folder`; missing ones are made, present ones are kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _make(self, name: str, content: str) -> Path:
        path = self.folder / name
        if not path.exists():
            write_atomic(path, content.encode(), mode=0o600)
        return path

    def credentials(self, username: str) -> Path:
        """`{"username", "password"}` of a login."""
        content = json.dumps({"username": username, "password": tokens.token_urlsafe(32)})
        return self._make(f"{username}.json", content)

    def api_key(self, tenant: str, number: int = 1) -> Path:
        """The tenant's API key of that number."""
        suffix = "" if number == 1 else f".{number}"
        return self._make(f"api-key-{tenant}{suffix}", "rag_" + tokens.token_urlsafe(32))

    def key_registry(self, tenants: Iterable[Tenant]) -> Path:
        """SHA-256 of every API key -> its tenant and user, which is all the guard gets to know."""
        registry = {}
        for tenant in tenants:
            for number in range(1, tenant.api_keys + 1):
                key = read_secret(self.api_key(tenant.name, number))
                digest = hashlib.sha256(key.encode()).hexdigest()
                registry[digest] = {"tenant": tenant.name, "user": f"{tenant.name}-key-{number}"}
        path = self.folder / "api-keys.json"
        write_atomic(path, json.dumps(registry, indent=1).encode(), mode=0o600)
        return path

    def tenant_token_keys(self) -> tuple[Path, Path]:
        """The guard's Ed25519 private key and the public key for retrieval, both PEM."""
        private = self._signing_key("tenant-token")
        return private, self._public(private)

    def jwt_signing_key(self) -> Path:
        """The stand-in identity provider's Ed25519 private key, PEM."""
        return self._signing_key("jwt")

    def jwks(self) -> Path:
        """The JSON Web Key Set that the gateway verifies JWTs with, alone in its watched folder."""
        path = self.folder / "jwks" / "jwks.json"
        write_atomic(path, edge.jwks(self.jwt_signing_key().read_bytes()).encode(), mode=0o600)
        return path

    def _signing_key(self, name: str) -> Path:
        pem = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return self._make(f"{name}.pem", pem.decode())

    def _public(self, private: Path) -> Path:
        key = serialization.load_pem_private_key(private.read_bytes(), None)
        pem = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        path = private.with_suffix(".pub.pem")
        write_atomic(path, pem, mode=0o600)
        return path
