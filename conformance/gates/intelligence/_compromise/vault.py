"""What a compromised pod gets from the vault with the token that is mounted in it."""

from base64 import b64decode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from conformance.gates.intelligence._compromise.attempts import Attempt
from conformance.gates.intelligence._compromise.footholds import Foothold
from conformance.probes.cluster import Cluster, Object
from conformance.probes.cluster.dialling import run

FAMILY = "vault"
URL = "https://vault.vault.svc:8200/v1"
_OWN = "the vault's list of accounts: its own folder and grants"
_PLATFORM_ROLES = ("vault-access", "secret-generator", "vault.rotation", "vault.suite")
_PLATFORM_PATHS = (
    "secret/data/vault/suite/tenant-signing-key",
    "secret/data/vault/suite/jwt-signing-key",
    "secret/data/vault/suite/api-keys",
    "secret/data/vault/suite/elasticsearch",
    "secret/data/vault/rotation/vault-login",
    "secret/data/vault/secret-generator/values",
    "secret/data/rag-audit/elasticsearch/users",
    "secret/data/rag-ingestion/object-store/s3",
    "database/creds/rag-admin",
    "database/config/vectordb",
    "sys/auth",
    "sys/mounts",
    "sys/storage/raft/snapshot",
)
_LISTS = (
    "secret/metadata",
    "secret/metadata/rag-gateway",
    "sys/policies/acl",
    "auth/kubernetes/role",
    "database/static-roles",
    "auth/token/accessors",
)
_CHANGES = (  # asked for and not done: what the token may do there
    "auth/kubernetes/role/intruder",
    "auth/kubernetes/config",
    "auth/token/create",
    "database/config/vectordb",
    "database/rotate-root/vectordb",
    "secret/metadata/rag-gateway/guard/signing-key",
    "sys/audit/file",
    "sys/policies/acl/intruder",
    "sys/raw/core",
    "sys/seal",
)
_ANONYMOUS: Sequence[tuple[str, str, Object | None]] = (
    ("GET", "sys/mounts", None),
    ("GET", "secret/data/rag-gateway/guard/signing-key", None),
    ("GET", "sys/metrics", None),
    ("GET", "sys/host-info", None),
    ("PUT", "sys/init", {"recovery_shares": 0}),
    ("PUT", "sys/generate-root/attempt", {}),
    ("DELETE", "sys/generate-root/attempt", None),  # and what was begun is called off
)
_OK, _REFUSED = (200, 204), (400, 401, 403, 404, 405)


@dataclass(frozen=True, slots=True)
class Ways:
    """What everybody tries: every account's role and path."""

    ca: str
    roles: Sequence[str]
    paths: Sequence[str]


def ways(cluster: Cluster, footholds: Sequence[Foothold]) -> Ways:
    """Roles and paths of all footholds, and those of the platform; raises `ProbeError`."""
    secret = cluster.get("v1", "Secret", "vault-tls", "vault")
    roles = [f"{f.namespace}.{f.account}" for f in footholds]
    paths = {path for f in footholds for path in f.paths}
    return Ways(
        b64decode(secret["data"]["ca.crt"]).decode(),
        [*roles, *_PLATFORM_ROLES],
        sorted({*paths, *_PLATFORM_PATHS}),
    )


def tried(cluster: Cluster, foothold: Foothold, every: Ways) -> Iterator[Attempt]:
    """Every role and, as its own, every path; raises `ProbeError`."""
    own = f"{foothold.namespace}.{foothold.account}"
    writes = [path for path in every.paths if path.startswith("secret/data/")]
    order = {
        "ca": every.ca,
        "url": URL,
        "own": own,
        "roles": every.roles,
        "reads": [*(("GET", p) for p in every.paths), *(("LIST", p) for p in _LISTS)],
        "paths": [*writes, *_CHANGES],
        "anonymous": _ANONYMOUS,
    }
    told: Object = run(cluster, foothold.pod, "vault_raid", order, 120.0)
    for what, status in told["anonymous"].items():
        yield _asked(foothold, f"{what} without a token", status)
    if not told["mounted"]:
        yield Attempt(str(foothold), FAMILY, "log in", False, "no token is mounted")
        return
    for role, status in told["roles"].items():
        yield _asked(foothold, f"log in as {role}", status, _OWN if role == own else "")
    for what, status in told["reads"].items():
        path = what.partition(" ")[2]
        yield _asked(foothold, what, status, _OWN if path in foothold.paths else "")
    for path, may in told["may"].items():
        verb = "write" if path in writes else "change"
        yield Attempt(str(foothold), FAMILY, f"{verb} {path}", _changes(may), f"{may}")


def _changes(may: Sequence[str] | None) -> bool | None:
    """Whether the capabilities are more than to read; None where the vault did not tell them."""
    return None if may is None else bool({*may} - {"deny", "read"})


def _asked(foothold: Foothold, what: str, status: int, why: str = "") -> Attempt:
    known = status in (*_OK, *_REFUSED)
    return Attempt(
        str(foothold), FAMILY, what, status in _OK if known else None, f"HTTP {status}", why
    )
