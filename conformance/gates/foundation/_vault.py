"""The Vault API as the platform's narrow access role and as the layers' accounts see it."""

from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from conformance.gate import Context, ProbeError
from conformance.probes.cluster import (
    Cluster,
    Dial,
    Object,
    Reply,
    Request,
    ask,
    await_open,
    planted,
    probe_pod,
    running,
    unique,
)

NAMESPACE = "vault"
_DOOR = Dial("vault.vault.svc", 8200)
URL = f"https://{_DOOR.host}:{_DOOR.port}/v1"
ACCESS = "vault-access"  # may write policies, roles and secrets of the layers, and read no secret
_TEMPORARY = "rag-conformance"  # policy and role that exist while a probe's secret is deleted
_ROLE_FIELDS = (
    "bound_service_account_names",
    "bound_service_account_namespaces",
    "audience",
    "token_policies",
    "token_ttl",
)
_REFUSED = (400, 403)
_PERMIT_SECONDS = 30

Account = tuple[str, str]  # namespace and name


def role_of(account: Account) -> str:
    """The role of a service account."""
    return ".".join(account)


@dataclass(frozen=True, slots=True)
class Vault:
    """The server, asked from a probe pod in its namespace, so that NetworkPolicy has its say."""

    cluster: Cluster
    pod: Object
    ca: str
    audience: str

    def send(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, token: str = ""
    ) -> Reply:
        """One request; raises `ProbeError` when the server cannot be reached."""
        return self.send_all([(method, path, body, token)])[0]

    def send_all(
        self, requests: Sequence[tuple[str, str, Mapping[str, Any] | None, str]]
    ) -> list[Reply]:
        """Several, from one process."""
        made = [
            Request(method, f"{URL}/{path}", body, {"X-Vault-Token": token} if token else {})
            for method, path, body, token in requests
        ]
        return ask(self.cluster, self.pod, made, self.ca)

    def jwt(self, account: Account) -> str:
        """A fresh token of a service account, for the server's audience."""
        return self.cluster.token(*account, [self.audience])

    def logins(self, pairs: Sequence[tuple[str, str]]) -> list[str]:
        """The client token for each pair of JWT and role, or '' where the server refuses.

        Raises `ProbeError` when it neither accepts nor refuses.
        """
        body = [{"jwt": jwt, "role": role} for jwt, role in pairs]
        replies = self.send_all([("POST", "auth/kubernetes/login", b, "") for b in body])
        return [_client_token(reply, role) for reply, (_, role) in zip(replies, pairs, strict=True)]

    def access(self) -> str:
        """A client token of the access role; raises `ProbeError`."""
        return self._must_login(ACCESS)

    def _must_login(self, role: str) -> str:
        (token,) = self.logins([(self.jwt((NAMESPACE, ACCESS)), role)])
        if not token:
            raise ProbeError(f"vault refuses {NAMESPACE}/{ACCESS} the role {role}")
        return token

    def must(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, token: str = ""
    ) -> Any:
        """The JSON of a request that has to succeed; raises `ProbeError`."""
        reply = self.send(method, path, body, token)
        if reply.status not in (200, 204):
            raise ProbeError(f"vault: {method} {path}: {reply.status} {errors_of(reply)}")
        return reply.body

    def write(self, path: str, value: str) -> None:
        """Write a secret's next version."""
        self.must("POST", f"secret/data/{path}", {"data": {"value": value}}, self.access())

    def forget(self, path: str) -> None:
        """Delete all versions of a secret, by a role that exists for that long only."""
        token = self.access()
        policy = f'path "secret/metadata/{path}" {{ capabilities = ["delete"] }}'
        role = {
            "bound_service_account_names": ACCESS,
            "bound_service_account_namespaces": NAMESPACE,
            "audience": self.audience,
            "token_policies": _TEMPORARY,
            "token_ttl": "1m",
        }
        policy_path = f"sys/policies/acl/{_TEMPORARY}"
        role_path = f"auth/kubernetes/role/{_TEMPORARY}"
        try:
            self.must("POST", policy_path, {"policy": policy}, token)
            self.must("POST", role_path, role, token)
            self.must("DELETE", f"secret/metadata/{path}", None, self._must_login(_TEMPORARY))
        finally:
            self.send_all([("DELETE", p, None, token) for p in (role_path, policy_path)])

    @contextmanager
    def role_bound_to(self, role: str, *accounts: Account) -> Iterator[None]:
        """Inside the block a role is bound to other accounts: to each name in each namespace."""
        path = f"auth/kubernetes/role/{role}"
        read = self.must("GET", path, None, self.access())["data"]
        before = {key: read[key] for key in _ROLE_FIELDS}
        bound = {
            "bound_service_account_names": [name for _, name in accounts],
            "bound_service_account_namespaces": [namespace for namespace, _ in accounts],
        }
        try:
            self.must("POST", path, {**before, **bound}, self.access())
            yield
        finally:
            self.must("POST", path, before, self.access())


@contextmanager
def reached(context: Context) -> Iterator[Vault]:
    """The platform's server, asked from a pod that is there inside the block."""
    cluster, image = context.target.cluster, context.parameter("probe_image")
    secret = cluster.get("v1", "Secret", "vault-tls", NAMESPACE)
    ca = b64decode(secret["data"]["ca.crt"]).decode()
    issuer = cluster.raw("/.well-known/openid-configuration")["issuer"]
    pod = probe_pod(unique(cluster, "asker"), NAMESPACE, image, "serve")
    with planted(cluster, pod, evidence=context.evidence) as made:
        vault = Vault(cluster, running(cluster, made)[0], ca, issuer)
        await_open(cluster, vault.pod, [_DOOR], _PERMIT_SECONDS, "vault")
        yield vault


def errors_of(reply: Reply) -> str:
    """What the server said was wrong; never a secret."""
    body = reply.body if isinstance(reply.body, dict) else {}
    return "; ".join(str(e) for e in body.get("errors", [])) or "without a reason"


def _client_token(reply: Reply, role: str) -> str:
    if reply.status == 200:
        return str(reply.body["auth"]["client_token"])
    if reply.status in _REFUSED:
        return ""
    raise ProbeError(f"vault: login as {role}: {reply.status} {errors_of(reply)}")
