"""What lies in the vault: path below the mount, then fields. docs/secrets.md says who reads which."""

import hashlib
import json
from collections.abc import Callable

import forms

Value = Callable[[str], bytes]  # 32 random bytes by name, the same ones at every run
Fields = dict[str, str]

KEYS = {  # API keys of each tenant
    "demo": 1,
    "conformance": 1,
    "conformance-small": 1,
    "conformance-scratch": 1,
    "conformance-scheduled": 1,
    "conformance-limited": 2,
}
BUCKETS = {  # S3 identity -> what it may do
    "ingestion": ["Read:documents", "List:documents"],
    "backup": ["Read:backups", "Write:backups", "List:backups"],
    "suite": ["Read:documents", "Write:documents", "List:documents"],
    "buckets": ["Admin"],
}
# No keyspace-wide command, no look at other clients: a cache is read and written key by key.
CACHE = (
    "user default off\n"
    "user retrieval on #{sha256} resetchannels ~* -@all +client|setinfo +get +hello +ping +set\n"
)
LOG = {  # login at Kafka -> its account
    "retrieval": "rag-retrieval/retrieval",
    "ingestion": "rag-ingestion/ingestion",
    "indexer": "rag-audit/indexer",
    "topics": "rag-audit/topics",
}
INDEX = {
    "indexer": "audit_writer",
    "template": "audit_template",
    "retention": "audit_retention",
    "reader": "audit_reader",
}


def contents(value: Value) -> dict[str, Fields]:
    """Every secret of the lab."""
    return {**_edge(value), **_objects(value), **_cache(value), **_audit(value), **_store(value)}


def _edge(value: Value) -> dict[str, Fields]:
    tenant, issuer = value("tenant-signing-key"), value("jwt-signing-key")
    keys, table = {}, {}
    for name, count in KEYS.items():
        for number in range(1, count + 1):
            own = name if number == 1 else f"{name}.{number}"
            keys[own] = "rag_" + value(f"api-key/{own}").hex()
            user = {"tenant": name, "user": f"{name}-key-{number}"}
            table[hashlib.sha256(keys[own].encode()).hexdigest()] = user
    return {
        "rag-gateway/guard/signing-key": {"key": forms.private_pem(tenant)},
        "rag-gateway/guard/api-keys": {"keys": json.dumps(table)},
        "rag-gateway/guard/jwt-issuer": {"jwks": forms.jwks(issuer)},
        "rag-retrieval/retrieval/tenant-public-key": {"key": forms.public_pem(tenant)},
        "vault/suite/api-keys": keys,
        "vault/suite/jwt-signing-key": {"key": forms.private_pem(issuer)},
        "vault/suite/tenant-signing-key": {"key": forms.private_pem(tenant)},
    }


def _objects(value: Value) -> dict[str, Fields]:
    keys = {
        name: {
            "access_key": forms.access_key(value(f"object-store/{name}/name")),
            "secret_key": value(f"object-store/{name}").hex(),
        }
        for name in BUCKETS
    }
    identities = [
        {
            "name": name,
            "credentials": [{"accessKey": k["access_key"], "secretKey": k["secret_key"]}],
            "actions": BUCKETS[name],
        }
        for name, k in keys.items()
    ]
    return {
        "rag-ingestion/object-store/s3": {"config": json.dumps({"identities": identities})},
        "rag-ingestion/ingestion/object-store": keys["ingestion"],
        "rag-ingestion/buckets/object-store": keys["buckets"],
        "rag-vectordb/backup/object-store": keys["backup"],
        "vault/suite/object-store": keys["suite"],
    }


def _cache(value: Value) -> dict[str, Fields]:
    password = value("cache").hex()
    acl = CACHE.format(sha256=hashlib.sha256(password.encode()).hexdigest())
    return {
        "rag-retrieval/cache/users": {"acl": acl},
        "rag-retrieval/retrieval/cache": {"username": "retrieval", "password": password},
    }


def _audit(value: Value) -> dict[str, Fields]:
    passwords = {name: value(f"elasticsearch/{name}").hex() for name in INDEX}
    users = [
        f"{name}:{forms.file_realm(password, value(f'elasticsearch/{name}/salt'))}\n"
        for name, password in passwords.items()
    ]
    logins = {n: {"username": n, "password": password} for n, password in passwords.items()}
    log = {name: value(f"kafka/{name}").hex() for name in LOG}
    return {
        "rag-audit/kafka/logins": log,
        **{f"{LOG[n]}/kafka": {"username": n, "password": p} for n, p in log.items()},
        "rag-audit/elasticsearch/users": {
            "users": "".join(users),
            "users_roles": "".join(f"{role}:{name}\n" for name, role in INDEX.items()),
        },
        "rag-audit/indexer/elasticsearch": logins["indexer"],
        "rag-audit/template/elasticsearch": logins["template"],
        "rag-audit/retention/elasticsearch": logins["retention"],
        "vault/suite/elasticsearch": logins["reader"],
    }


def _store(value: Value) -> dict[str, Fields]:
    """The vault's own login there, until the vault rotates it; the others are the vault's to make."""
    login = {"username": "vault", "password": value("vectordb/vault").hex()}
    return {
        "rag-vectordb/vectordb/vault-login": login,
        "vault/rotation/vault-login": login,
    }
