"""The newest backup, restored by the project's own Job into a server of its pod, and asked there."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import sql

from conformance.gate import Context, ProbeError
from conformance.gates.data import _index
from conformance.probes.cluster import Cluster, Object, planted, unique
from conformance.probes.cluster.jobs import logs, pod_of
from rag_store.pgvector.names import TenantNames

RESTORE = Path(__file__).parents[3] / "apps" / "vectordb" / "restore"
CONTAINER, SERVE_SECONDS = "postgresql", 900
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


def tables(context: Context, tenant: str) -> Tables:
    """The tenant's tables; raises `ProbeError` when nothing is indexed."""
    with _index.owner(context, tenant) as connection:
        generation = _index.active_generation(connection, tenant)
        found = TenantNames(tenant).tables(generation)
        return Tables(*(found[kind].as_string(connection) for kind in ("document", "chunk")))


@contextmanager
def live(context: Context, tenant: str) -> Iterator[Ask]:
    """Asks the running store, as the tenant's owner."""
    with _index.owner(context, tenant) as connection:

        def ask(text: str) -> list[str]:
            rows: list[str] = []
            for statement in filter(None, (part.strip() for part in text.split(";"))):
                cursor = connection.execute(sql.SQL(statement))
                rows += [str(row[0]) for row in cursor] if cursor.description else []
            return rows

        yield ask


@contextmanager
def restored(context: Context, seconds: float) -> Iterator[Ask]:
    """Asks a server that was restored from the newest backup within `seconds`, in the Job's pod."""
    cluster = context.target.cluster
    job = _job(context.target.environment, unique(cluster, "restore"))
    with planted(cluster, job, evidence=context.evidence):
        try:
            pod = cluster.wait(
                lambda: _serving(cluster, job), seconds, "the backup is restored and served"
            )
        except ProbeError as error:
            raise ProbeError(f"{error}: {logs(cluster, job)[-400:].strip()}") from error
        finally:
            context.evidence.write("restore.txt", logs(cluster, job))
        yield lambda text: _psql(cluster, pod, text)


def _job(environment: str, name: str) -> Object:
    """The restore Job as the environment's overlay has it, serving for a while."""
    from conformance.static import matrix
    from conformance.static.render import RenderError, render
    from conformance.static.substitution import substitute

    variables = matrix.variables(environment)
    names = (environment, variables.get("vector_store", "base"), "base")
    folder = next((RESTORE / name for name in names if (RESTORE / name).is_dir()), None)
    if folder is None:
        raise ProbeError(f"{RESTORE}: no restore Job in this checkout")
    try:
        found = [substitute(i, variables) for i in render(folder) if i["kind"] == "Job"]
    except RenderError as error:
        raise ProbeError(f"{folder}: {error}") from error
    if len(found) != 1:
        raise ProbeError(f"{folder}: one Job wanted, there are {len(found)}")
    job: Object = deepcopy(found[0])
    job["metadata"]["name"] = name
    containers: list[dict[str, Any]] = job["spec"]["template"]["spec"]["containers"]
    serving = next((c for c in containers if c["name"] == CONTAINER), None)
    if serving is None:
        raise ProbeError(f"{folder}: no container {CONTAINER}: it restores into the store itself")
    env = [e for e in serving.get("env") or [] if e["name"] != "KEEP_SECONDS"]
    serving["env"] = [*env, {"name": "KEEP_SECONDS", "value": str(SERVE_SECONDS)}]
    return job


def _serving(cluster: Cluster, job: Object) -> Object | None:
    """The pod, once its server answers from outside of the restore itself; `ProbeError` if it failed."""
    pod = pod_of(cluster, job)
    if pod is None:
        return None
    if (pod.get("status") or {}).get("phase") == "Failed":
        raise ProbeError("the restore Job's pod failed")
    try:
        # ANALYZE is the restore's last step; the server that it stops after has no TCP port.
        told = _psql(cluster, pod, "SHOW listen_addresses")
    except ProbeError:
        return None
    return pod if told and told[0] else None


def _psql(cluster: Cluster, pod: Object, text: str) -> list[str]:
    metadata = pod["metadata"]
    command = ["sh", "-c", _PSQL]
    told = cluster.exec(metadata["namespace"], metadata["name"], CONTAINER, command, text, 120)
    return [line for line in told.splitlines() if line]
