"""Puts every secret of contents.py into the vault, once: what is there is never written again.

The random values lie in the generator's own folder, so that a run that was cut short goes on with the
same ones and both halves of a pair always belong together.
"""

import json
import os
import secrets
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import contents

ROLE = "secret-generator"
VALUES = f"vault/{ROLE}/values"
ATTEMPTS, PAUSE_SECONDS = 30, 2
TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
Json = dict[str, Any]


class Vault:
    """The KV store at `secret/`, version 2."""

    def __init__(self, address: str, ca: str | None, token: str = "") -> None:
        self._address, self._token = address, token
        self._context = ssl.create_default_context(cafile=ca) if ca else None

    def ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Json | None:
        """The answer's JSON, None for 404; raises `HTTPError` and `URLError`."""
        request = urllib.request.Request(  # noqa: S310 - the address is ours
            f"{self._address}/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Vault-Token": self._token} if self._token else {},
        )
        try:
            with urllib.request.urlopen(request, timeout=10, context=self._context) as answer:  # noqa: S310
                return dict(json.loads(answer.read() or b"{}"))
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def login(self, jwt: str) -> None:
        """Become the role."""
        answer = self.ask("POST", "auth/kubernetes/login", {"role": ROLE, "jwt": jwt})
        if answer is None:
            raise SystemExit("the vault has no auth/kubernetes: is it bootstrapped?")
        self._token = answer["auth"]["client_token"]

    def has(self, path: str) -> bool:
        """Whether the secret has a version; its content stays unread."""
        return self.ask("GET", f"secret/metadata/{path}") is not None

    def read(self, path: str) -> tuple[Json, int]:
        """Fields and version; none and 0 when it is not there."""
        answer = self.ask("GET", f"secret/data/{path}")
        if answer is None:
            return {}, 0
        return answer["data"]["data"], answer["data"]["metadata"]["version"]

    def write(self, path: str, fields: Mapping[str, str], version: int) -> None:
        """The version after `version`, refused by the vault when that is not the newest."""
        self.ask("POST", f"secret/data/{path}", {"data": fields, "options": {"cas": version}})


def generate(vault: Vault) -> tuple[list[str], list[str]]:
    """Make what is missing; the paths that were made, and those that were there."""
    kept, version = vault.read(VALUES)
    values = dict(kept)

    def value(name: str) -> bytes:
        return bytes.fromhex(values.setdefault(name, secrets.token_hex(32)))

    wanted = contents.contents(value)
    if values != kept:
        vault.write(VALUES, values, version)
    missing = [path for path in wanted if not vault.has(path)]
    for path in missing:
        vault.write(path, wanted[path], 0)
    return missing, [path for path in wanted if path not in missing]


def main() -> None:
    """Wait for the vault, log in, generate; no value is ever printed."""
    vault = Vault(os.environ["VAULT_ADDR"], os.environ.get("VAULT_CACERT"))
    for attempt in range(1, ATTEMPTS + 1):
        try:
            vault.login(TOKEN.read_text())
            break
        except urllib.error.URLError as error:
            if attempt == ATTEMPTS:
                sys.exit(f"no login as {ROLE}: {error}: is its role bootstrapped?")
            time.sleep(PAUSE_SECONDS)
    made, there = generate(vault)
    for path in made:
        print(f"made secret/{path}")
    print(f"{len(made)} made, {len(there)} were there")


if __name__ == "__main__":
    main()
