"""What the logins that a compromised pod holds are good for beyond its work: the store, Kafka, the rest."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from conformance.gates.intelligence._compromise.attempts import Attempt
from conformance.gates.intelligence._compromise.footholds import Foothold
from conformance.probes.cluster import Cluster, Object
from conformance.probes.cluster.dialling import run
from conformance.static.matrix import Matrix

_SECONDS = 120.0
_POSTGRESQL, _QDRANT = ("rag-vectordb", "vectordb", 5432), ("rag-vectordb", "vectordb", 6333)
_KAFKA = ("rag-audit", "kafka")
_AS_READER, _AS_WRITER = "SET LOCAL ROLE {reader}", "SET LOCAL ROLE {writer}"
_READ, _CHANGE = "SELECT count(*) FROM {chunk}", "DELETE FROM {chunk} WHERE false"
SQL = {
    "read a tenant's passages as its reader": [_AS_READER, _READ],
    "read a tenant's passages as its writer": [_AS_WRITER, _READ],
    "read a tenant's passages as itself": [_READ],
    "change a tenant's passages as its reader": [_AS_READER, _CHANGE],
    "change a tenant's passages as its writer": [_AS_WRITER, _CHANGE],
    "change a tenant's passages as itself": [_CHANGE],
    "own a tenant's schema": [_AS_WRITER, "COMMENT ON SCHEMA {schema} IS NULL"],
    "make a role": ["CREATE ROLE intruder"],
    "make a schema": ["CREATE SCHEMA intruder"],
    "make a table in public": ["CREATE TABLE public.intruder (x int)"],
    **{
        f"become {role}": [f"SET LOCAL ROLE {role}"]
        for role in (
            "postgres",
            "vault",
            "rag_admin",
            "rag_writer",
            "rag_reader",
            "backup",
            "replica",
        )
    },
    "take another session's name": ["SET LOCAL SESSION AUTHORIZATION vault"],
    "read a file of the server": ["SELECT pg_read_file('/etc/passwd')"],
    "list files of the server": ["SELECT pg_ls_dir('/')"],
    "write a file of the server": ["COPY (SELECT 1) TO '/tmp/intruder'"],
    "run a program": ["COPY (SELECT 1) TO PROGRAM 'true'"],
    "import a file": ["SELECT lo_import('/etc/passwd')"],
    "read passwords": ["SELECT count(*) FROM pg_authid"],
    "set what only an administrator sets": [
        "SELECT set_config('log_min_messages', 'debug1', true)"
    ],
    "have the settings read again": ["SELECT pg_reload_conf()"],
    "see another's statements": [
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE usename IS DISTINCT FROM current_user"
        " AND backend_type = 'client backend' AND query NOT IN ('', '<insufficient privilege>')"
    ],
    "cancel another's statement": [
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename IS DISTINCT FROM"
        " current_user AND backend_type = 'client backend' LIMIT 1"
    ],
    "drop a replication slot": ["SELECT pg_drop_replication_slot('intruder')"],
}
TOPICS = ("audit", "audit.dead-letter", "documents", "documents.dead-letter")
KAFKA = [
    *(
        (way, topic)
        for topic in TOPICS
        for way in ("write", "read", "delete records of", "change settings of")
    ),
    ("make", "intruder"),
    ("move the place of", "audit-indexer audit"),
    ("move the place of", "ingestion documents"),
]
_KAFKA_REFUSED = {29, 30, 31, 33, 34, 58}  # no right to topic, group or cluster; no such login
_KAFKA_LOST = -2
_NO_DAY = "/audit-1999.01.01"
_ALIAS = '{"actions": [{"add": {"index": "audit-1999.01.01", "alias": "intruder"}}]}'
_SETTING = '{"persistent": {"cluster.routing.rebalance.enable": null}}'
_NEVER = "if_seq_no=999999&if_primary_term=999"  # no record is at that place


def elasticsearch(day: str) -> dict[str, tuple[str, str, str]]:
    """Requests about what is not there, in the index of the day, that are authorized first."""
    index = f"/audit-{day}"
    return {
        "read records": ("GET", "/audit-*/_search?size=0", ""),
        "change a record": ("POST", f"{index}/_update/intruder", '{"doc": {"x": 1}}'),
        "overwrite a record": ("PUT", f"{index}/_doc/intruder?{_NEVER}", "{}"),
        "delete a record": ("DELETE", f"{index}/_doc/intruder", ""),
        "delete a day": ("DELETE", _NO_DAY, ""),
        "change a mapping": ("PUT", f"{_NO_DAY}/_mapping", '{"properties": {}}'),
        "change the template": ("DELETE", "/_index_template/intruder", ""),
        "change cluster settings": ("PUT", "/_cluster/settings", _SETTING),
        "see what others may": ("GET", "/_security/role", ""),
        "make an alias": ("POST", "/_aliases", _ALIAS),
    }


S3: dict[str, tuple[str, str, str]] = {
    "list documents": ("GET", "/documents?list-type=2&max-keys=1", ""),
    "write a document": ("PUT", "/documents/.rag-conformance/intruder", ""),
    "delete a document": ("DELETE", "/documents/.rag-conformance/intruder", ""),
    "list backups": ("GET", "/backups?list-type=2&max-keys=1", ""),
    "write a backup": ("PUT", "/backups/.rag-conformance/intruder", ""),
    "delete a backup": ("DELETE", "/backups/.rag-conformance/intruder", ""),
    "make a bucket": ("PUT", "/rag-conformance-intruder", ""),
    "remove a bucket": ("DELETE", "/rag-conformance-intruder", ""),
}
_NOWHERE = "/collections/rag-conformance-intruder"
_LARGE = "/collections/conformance__active/points"  # the suite's own tenant, by its alias
_NO_POINT = '{"points": ["00000000-0000-0000-0000-000000000000"]}'
_TO_NOWHERE = '{"collection_name": "rag-conformance-intruder", "alias_name": "x"}'
_NO_ALIAS = f'{{"actions": [{{"create_alias": {_TO_NOWHERE}}}]}}'
# About what is not there, but for the reading; Qdrant asks for the right to it first.
QDRANT: dict[str, tuple[str, str, str]] = {
    "read a tenant's passages": ("POST", f"{_LARGE}/scroll", '{"limit": 1}'),
    "change a tenant's passages": ("POST", f"{_LARGE}/delete", _NO_POINT),
    "change a collection": ("PATCH", _NOWHERE, "{}"),
    "delete a collection": ("DELETE", _NOWHERE, ""),
    "make an alias": ("POST", "/collections/aliases", _NO_ALIAS),
    "take a snapshot": ("POST", f"{_NOWHERE}/snapshots", ""),
}
_CACHE, _LIMITS = "cache.rag-retrieval", "limits.rag-gateway"


def tried(cluster: Cluster, foothold: Foothold, matrix: Matrix) -> Iterator[Attempt]:
    """What the account's flows lead to, with what is in its files; raises `ProbeError`."""
    own = (foothold.namespace, foothold.account)
    doors = {
        (edge.to_namespace, edge.to_account, edge.port)
        for edge in matrix.flows
        if (edge.from_namespace, edge.from_account) == own != (edge.to_namespace, edge.to_account)
    }
    if _POSTGRESQL in doors:
        yield from _sql(cluster, foothold)
    if _KAFKA in {door[:2] for door in doors}:  # each listener has a port of its own
        yield from _kafka(cluster, foothold)
    services = {name: one for name, (door, one) in _SERVICES.items() if door in doors}
    if services:
        yield from _services(cluster, foothold, services)


def _sql(cluster: Cluster, foothold: Foothold) -> Iterator[Attempt]:
    order = {"host": "vectordb.rag-vectordb", "port": _POSTGRESQL[-1], "attempts": SQL}
    told: list[Object] = run(cluster, foothold.pod, "sql_raid", order, _SECONDS)
    if not told:
        yield Attempt(str(foothold), "sql", "connect", None, "no login is in its files")
    for login in told:
        for what, outcome in login["told"].items():
            if what == f"become {login['user']}":
                continue
            got, said = outcome or (None, "no tenant is there")
            why = "a flow of matrix.yaml" if what == "connect" and got else ""
            yield Attempt(str(foothold), "sql", what, got, said, why)


def _kafka(cluster: Cluster, foothold: Foothold) -> Iterator[Attempt]:
    order = {"host": "kafka.rag-audit", "port": 9092, "attempts": KAFKA}
    told: dict[str, int] = run(cluster, foothold.pod, "kafka_raid", order, _SECONDS)
    for what, code in told.items():
        got = None if code == _KAFKA_LOST else code not in _KAFKA_REFUSED
        yield Attempt(str(foothold), "kafka", what, got, f"error code {code}")


def _commands(host: str, commands: Sequence[Sequence[str]]) -> Object:
    attempts = {_named(words): (host, 6379, list(words)) for words in commands}
    return {"kind": "valkey", "attempts": attempts}


def _named(words: Sequence[str]) -> str:
    return " ".join(words).replace(" RAG-CONFORMANCE", "")


# With a word too many, what is allowed is refused as wrong, and nothing is done.
_DANGEROUS = (
    ["FLUSHALL", "RAG-CONFORMANCE"],
    ["SHUTDOWN", "RAG-CONFORMANCE"],
    ["KEYS", "*"],
    ["SCAN", "0"],
    ["CONFIG", "GET", "dir"],
    ["ACL", "LIST"],
    ["EVAL", "return 1", "0"],
    ["MONITOR"],
    ["REPLICAOF", "NO", "ONE"],
    ["MODULE", "LIST"],
    ["CLIENT", "LIST"],
)
_SERVICES: dict[str, tuple[tuple[str, str, int], Object]] = {
    "qdrant": (
        _QDRANT,
        {
            "kind": "key",
            "login": "store.json",
            "url": "http://vectordb.rag-vectordb:6333",
            "attempts": QDRANT,
        },
    ),
    "elasticsearch": (
        ("rag-audit", "elasticsearch", 9200),
        {
            "kind": "basic",
            "login": "elasticsearch.json",
            "url": "http://elasticsearch.rag-audit:9200",
            "attempts": elasticsearch(f"{datetime.now(UTC):%Y.%m.%d}"),
        },
    ),
    "s3": (
        ("rag-ingestion", "object-store", 8333),
        {
            "kind": "s3",
            "login": "object-store.json",
            "url": "http://object-store.rag-ingestion:8333",
            "attempts": S3,
        },
    ),
    "cache": (
        ("rag-retrieval", "cache", 6379),
        {
            **_commands(
                _CACHE, [["GET", "x"], ["SET", "rag-conformance", "1", "EX", "1"], *_DANGEROUS]
            ),
            "login": "cache.json",
        },
    ),
    "limits": (
        ("rag-gateway", "limits", 6379),
        {
            **_commands(
                _LIMITS,
                [
                    ["GET", "rag:limit:x"],
                    ["SET", "rag:limit:rag-conformance", "1", "EX", "1"],
                    ["GET", "x"],
                    ["SET", "rag-conformance", "1", "EX", "1"],
                    *_DANGEROUS,
                ],
            ),
            "login": "",
        },
    ),
}
# Let through; the last two because it was about what is not there.
_LET_THROUGH = (200, 201, 204, 404, 409)


def _services(
    cluster: Cluster, foothold: Foothold, services: dict[str, Object]
) -> Iterator[Attempt]:
    told: dict[str, dict[str, tuple[int, str]] | None] = run(
        cluster, foothold.pod, "service_raid", services, _SECONDS
    )
    for name, outcomes in told.items():
        if outcomes is None:
            yield Attempt(str(foothold), name, "log in", None, "no login is in its files")
        for what, (status, said) in (outcomes or {}).items():
            yield Attempt(str(foothold), name, what, _got(name, status, said), _short(status, said))


def _got(service: str, status: int, said: str) -> bool | None:
    if not status:
        return None
    if service in ("cache", "limits"):  # NOPERM is the ACL's; any other error came after it
        return not ("NOPERM" in said or "NOAUTH" in said or "WRONGPASS" in said)
    return status in _LET_THROUGH


def _short(status: int, said: str) -> str:
    return f"{status} {' '.join(said.split())[:120]}"
