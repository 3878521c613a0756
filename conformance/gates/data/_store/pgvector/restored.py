"""A tenant's index in SQL: the running store's, and the newest backup's in the restore Job's pod."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from psycopg import sql

from conformance.gate import Context, ProbeError
from conformance.gates.data._store import restoring
from conformance.gates.data._store.base import DECLARED, Vectors
from conformance.gates.data._store.pgvector import faults
from conformance.probes.cluster import Cluster, Object
from rag_store.pgvector.names import TenantNames

CONTAINER = "postgresql"
BATCH = 20  # questions in one statement: their vectors are text
_PSQL = (
    'read -r query; printf "%s" "$query" | '
    "exec psql -X -q -tA -v ON_ERROR_STOP=1 -h /run/postgresql -U postgres rag"
)
# One line each, as a container's standard input takes them; psql and psycopg say the same to both.
_DOCUMENTS = (
    "SELECT d.doc_id || ' ' || md5(d.content_hash || coalesce(string_agg("
    "md5(c.body || c.dense::text), '' ORDER BY c.ordinal), '')) "
    "FROM DOCUMENT d LEFT JOIN CHUNK c USING (doc_id) GROUP BY d.doc_id, d.content_hash"
)
_NEAREST = (
    "SELECT string_agg(doc_id, ',' ORDER BY place) FROM (SELECT doc_id, row_number() OVER () "
    "AS place FROM (SELECT doc_id FROM CHUNK ORDER BY dense <=> '[VECTOR]' LIMIT DEPTH) AS found) "
    "AS numbered;"
)
Ask = Callable[[str], list[str]]


@dataclass(frozen=True, slots=True)
class Tables:
    """A tenant's active generation, as SQL text names it."""

    document: str
    chunk: str

    def documents(self) -> str:
        """A line a document: its id and a digest over it, its passages and their vectors."""
        return _DOCUMENTS.replace("DOCUMENT", self.document).replace("CHUNK", self.chunk)

    def nearest(self, vectors: Sequence[Sequence[float]], depth: int, ef_search: int) -> str:
        """A line a vector: the documents of the nearest passages, best first, by commas."""
        statement = _NEAREST.replace("CHUNK", self.chunk).replace("DEPTH", str(depth))
        asked = (
            statement.replace("VECTOR", ",".join(f"{x:.6f}" for x in vector)) for vector in vectors
        )
        return f"SET hnsw.ef_search = {ef_search}; {' '.join(asked)}"


@dataclass(frozen=True, slots=True)
class Asked:
    """Implements `base.Contents` for whoever answers SQL."""

    ask: Ask
    tables: Tables

    def documents(self) -> dict[str, str]:
        """Digest by document."""
        rows = (line.rpartition(" ") for line in self.ask(self.tables.documents()))
        return {doc_id: digest for doc_id, _, digest in rows}

    def nearest(self, vectors: Vectors, depth: int) -> list[list[str]]:
        """The documents of the nearest passages of each vector."""
        found: list[str] = []
        for start in range(0, len(vectors), BATCH):
            part = [[float(x) for x in row] for row in vectors[start : start + BATCH]]
            asked = self.tables.nearest(part, depth, DECLARED.ef_search)
            lines = [line for line in self.ask(asked) if line != "SET"]
            # An index without a passage has no line to give.
            found += lines if len(lines) == len(part) else [""] * len(part)
        return [line.split(",") for line in found]


def tables(context: Context, tenant: str) -> Tables:
    """The tenant's tables; raises `ProbeError` when nothing is indexed."""
    with faults.owner(context, tenant) as connection:
        generation = faults.active_generation(connection, tenant)
        found = TenantNames(tenant).tables(generation)
        return Tables(*(found[kind].as_string(connection) for kind in ("document", "chunk")))


@contextmanager
def live(context: Context, tenant: str) -> Iterator[Asked]:
    """Asks the running store, as the tenant's owner."""
    known = tables(context, tenant)
    with faults.owner(context, tenant) as connection:

        def ask(text: str) -> list[str]:
            rows: list[str] = []
            for statement in filter(None, (part.strip() for part in text.split(";"))):
                cursor = connection.execute(sql.SQL(statement))
                rows += [str(row[0]) for row in cursor] if cursor.description else []
            return rows

        yield Asked(ask, known)


@contextmanager
def restored(context: Context, tenant: str, seconds: float) -> Iterator[Asked]:
    """Asks a server that was restored from the newest backup within `seconds`, in the Job's pod."""
    cluster, known = context.target.cluster, tables(context, tenant)

    def serves(pod: Object) -> bool:
        try:
            # ANALYZE is the restore's last step; the server that it stops after has no TCP port.
            told = _psql(cluster, pod, "SHOW listen_addresses")
        except ProbeError:
            return False
        return bool(told and told[0])

    with restoring.restored(context, CONTAINER, serves, seconds) as pod:
        yield Asked(lambda text: _psql(cluster, pod, text), known)


def _psql(cluster: Cluster, pod: Object, text: str) -> list[str]:
    metadata = pod["metadata"]
    command = ["sh", "-c", _PSQL]
    told = cluster.exec(metadata["namespace"], metadata["name"], CONTAINER, command, text, 120)
    return [line for line in told.splitlines() if line]


def half_a_backup(context: Context) -> AbstractContextManager[None]:
    """The dump leaves the passages out, and succeeds."""
    without = "s/pg_dump /pg_dump --exclude-table-data=*.chunk_* /"
    command = ["/bin/sh", "-c", f"sed '{without}' /scripts/dump.sh | sh"]
    return restoring.dumping(context.target.cluster, lambda _: command)
