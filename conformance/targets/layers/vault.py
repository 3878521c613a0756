"""Secrets of the vault, read as a service account of the cluster would read them."""

import ssl
import threading
import time
from base64 import b64decode
from typing import Any

import httpx

from conformance.gate import ProbeError
from conformance.targets.kube.client import Cluster
from conformance.targets.layers.places import forward

SUITE = ("vault", "suite")  # namespace and name of the account that the suite reads as
_NAMESPACE, _HOST = "vault", "vault.vault.svc"
_TIMEOUT_SECONDS = 10.0
_KEPT_SECONDS = 30.0  # a secret; a login is asked for anew
_MARGIN = 0.8  # of a token's life, after which it is not used any more
_VARS = ("v1", "ConfigMap", "cluster-vars", "flux-system")


class Vault:
    """The platform's vault through a door of its own; tokens and secrets stay in memory."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._lock = threading.Lock()
        self._session: httpx.Client | None = None
        self._tokens: dict[tuple[str, str], tuple[str, float]] = {}
        self._kept: dict[str, tuple[dict[str, Any], float]] = {}

    def secret(self, name: str, account: tuple[str, str] = SUITE) -> dict[str, Any]:
        """The fields of `secret/<namespace>/<account>/<name>`; raises `ProbeError`."""
        path = "/".join(("secret/data", *account, name))
        fields, until = self._kept.get(path, ({}, 0.0))
        if time.monotonic() >= until:
            fields = dict(self._read(path, account)["data"])
            self._kept[path] = fields, time.monotonic() + _KEPT_SECONDS
        return fields

    def login(self, role: str, account: tuple[str, str] = SUITE) -> dict[str, str]:
        """Username and password of a login of the vector store, as they are now; `ProbeError`."""
        found = self._read(f"database/static-creds/{role}", account)
        return {"username": str(found["username"]), "password": str(found["password"])}

    def _read(self, path: str, account: tuple[str, str]) -> dict[str, Any]:
        with self._lock:
            token = self._token(account)
            answer = self._send("GET", path, headers={"X-Vault-Token": token})
        return dict(answer["data"])

    def _token(self, account: tuple[str, str]) -> str:
        token, until = self._tokens.get(account, ("", 0.0))
        if time.monotonic() < until:
            return token
        body = {"role": ".".join(account), "jwt": self.cluster.token(*account, [self._audience()])}
        granted = self._send("POST", "auth/kubernetes/login", json=body)["auth"]
        life = float(granted["lease_duration"])
        token = str(granted["client_token"])
        self._tokens[account] = token, time.monotonic() + life * _MARGIN
        return token

    def _audience(self) -> str:
        """What the vault's roles want a token to be for: the cluster's variables say, or its issuer."""
        variables = self.cluster.find(*_VARS) or {}
        told = (variables.get("data") or {}).get("token_audience")
        return str(told or self.cluster.raw("/.well-known/openid-configuration")["issuer"])

    def _send(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        session = self._session or self._open()
        try:
            answer = session.request(method, path, extensions={"sni_hostname": _HOST}, **options)
        except httpx.HTTPError as error:
            raise ProbeError(f"vault: {method} {path}: {type(error).__name__}: {error}") from error
        if answer.status_code != httpx.codes.OK:
            raise ProbeError(f"vault: {method} {path}: {answer.status_code} {_errors(answer)}")
        return dict(answer.json())

    def _open(self) -> httpx.Client:
        certificate = self.cluster.get("v1", "Secret", "vault-tls", _NAMESPACE)["data"]["ca.crt"]
        trusted = ssl.create_default_context(cadata=b64decode(certificate).decode())
        self._session = httpx.Client(
            base_url=f"https://{forward(self.cluster, 'vault').address}/v1",
            verify=trusted,
            timeout=_TIMEOUT_SECONDS,
            trust_env=False,
        )
        return self._session


def _errors(answer: httpx.Response) -> str:
    """What the server said was wrong; never a secret."""
    try:
        return "; ".join(str(e) for e in answer.json().get("errors", [])) or "without a reason"
    except ValueError:
        return "without a reason"
