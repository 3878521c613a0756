"""tenant-isolation: a tenant gets nothing of another's, whatever way it tries."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import httpx
import psycopg
from psycopg import sql

from conformance.corpora.model import sample
from conformance.corpora.prepare import SMALL_TENANT, TENANT, Prepared, prepared
from conformance.gate import Context, Fault, Gate, Measurement, Observation, Phase, ProbeError
from conformance.gates.data import _queries
from conformance.gates.data._index import active_generation, owner
from conformance.stats import exactly, paired_gain, percentile
from conformance.targets.http import client as client_of
from rag_store.pgvector.names import TenantNames

REFUSALS = {400, 401, 403, 422}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of the small tenant to read the large one's chunks."""

    way: str
    leaked: bool
    detail: str


def measure(context: Context) -> Observation:
    """Leaks over every way in; and the small tenant is served as well as the large one."""
    both = prepared(context)
    attempts = [
        *_through_the_api(context, both),
        *_forged(context, both),
        *_through_sql(context),
    ]
    context.evidence.write("attempts.jsonl", [asdict(attempt) for attempt in attempts])
    return Observation(
        {
            "leaks": exactly(sum(a.leaked for a in attempts), len(attempts)),
            **_served_alike(context, both),
        },
        notes=[f"leaked by {a.way}: {a.detail}" for a in attempts if a.leaked],
    )


def _foreign(response: httpx.Response, both: Prepared) -> list[str]:
    """Chunk ids in an answer that are not the small tenant's own."""
    if response.status_code != httpx.codes.OK:
        return []
    own = {document.doc_id for document in both.small.corpus.documents}
    body = response.json()
    found = [*body.get("results", ()), *body.get("citations", ())]
    return [item["chunk_id"] for item in found if item["doc_id"] not in own]


def _attempt(way: str, response: httpx.Response, both: Prepared) -> Attempt:
    if response.status_code not in REFUSALS | {httpx.codes.OK}:  # it says nothing of the tenant
        raise ProbeError(f"{way}: HTTP {response.status_code}: {response.text[:200]}")
    leaked = _foreign(response, both)
    return Attempt(way, bool(leaked), f"HTTP {response.status_code} {leaked[:3]}")


def _through_the_api(context: Context, both: Prepared) -> Iterator[Attempt]:
    """The large tenant's own questions, asked as the small tenant."""
    size, seed = int(context.parameter("queries")), int(context.parameter("seed"))
    asked = sample(both.full.corpus.answerable, size, seed, "isolation")
    with context.target.gateway(SMALL_TENANT) as client:
        for done, query in enumerate(asked, 1):
            context.progress(done, len(asked), "foreign questions")
            response = client.post("/v1/retrieve", json={"query": query.text, "top_n": 20})
            if _queries.flagged(response):
                continue
            if response.status_code != httpx.codes.OK:  # a refusal would hide a leak
                raise ProbeError(f"gateway: HTTP {response.status_code}: {response.text[:200]}")
            yield _attempt("gateway", response, both)


def _forged(context: Context, both: Prepared) -> Iterator[Attempt]:
    """The tenant named in the body, in headers, in the path; at the gateway and past it."""
    query = both.full.corpus.answerable[0].text
    headers = ("x-tenant", "x-rag-tenant", "x-rag-user", "x-rag-jwt-tenant", "x-tenant-id")
    for place, client in (
        ("gateway", context.target.gateway(SMALL_TENANT)),
        ("retrieval", context.target.retrieval(SMALL_TENANT)),
    ):
        with client:
            for field in ("tenant", "tenant_id", "collection", "namespace"):
                body = {"query": query, field: TENANT}
                yield _attempt(
                    f"{place}: body {field}", client.post("/v1/retrieve", json=body), both
                )
            for name in headers:
                response = client.post(
                    "/v1/retrieve", json={"query": query}, headers={name: TENANT}
                )
                yield _attempt(f"{place}: header {name}", response, both)
    with client_of(context.target.description.retrieval_url, 30) as bare:
        for token in ("", "nonsense", context.target.jwt(TENANT)):
            response = bare.post(
                "/v1/retrieve", json={"query": query}, headers={"x-rag-tenant-token": token}
            )
            yield _attempt(f"retrieval: token {token[:8]!r}", response, both)


def _through_sql(context: Context) -> Iterator[Attempt]:
    """The services' own logins, bare and under the small tenant's role."""
    for login in ("reader", "writer"):
        small = TenantNames(SMALL_TENANT)
        role = small.reader if login == "reader" else small.writer
        with context.target.sql(login) as connection:
            chunks = _chunks_of_the_large_tenant(context, login)
            for way, before in (
                ("bare", ()),
                ("as the small tenant", (sql.SQL("SET ROLE {}").format(sql.Identifier(role)),)),
            ):
                yield _select(connection, f"sql {login} {way}", before, chunks)


def _chunks_of_the_large_tenant(context: Context, login: str) -> sql.Composable:
    """The table's name; raises `ProbeError` when it holds nothing that could leak."""
    names = TenantNames(TENANT)
    with context.target.sql(login) as connection:
        role = names.reader if login == "reader" else names.writer
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        chunks = names.tables(active_generation(connection))["chunk"]
        if connection.execute(_ANY.format(chunks)).fetchone() is None:
            raise ProbeError(f"tenant {TENANT} has no chunk in its index")
        return chunks


_ANY = sql.SQL("SELECT chunk_id FROM {} LIMIT 1")


def _select(
    connection: psycopg.Connection[tuple[object, ...]],
    way: str,
    before: Sequence[sql.Composed],
    chunks: sql.Composable,
) -> Attempt:
    try:
        with connection.transaction(force_rollback=True):
            for statement in before:
                connection.execute(statement)
            row = connection.execute(_ANY.format(chunks)).fetchone()
    except psycopg.errors.InsufficientPrivilege as error:
        return Attempt(way, False, str(error).splitlines()[0])
    return Attempt(way, row is not None, f"read {row}")


def _served_alike(context: Context, both: Prepared) -> dict[str, Measurement]:
    """Recall and latency of the small tenant's questions, in its index and in the large one."""
    queries = both.small.corpus.answerable
    small = _queries.ask(context, queries, tenant=SMALL_TENANT, clients=1, what="small tenant")
    large = _queries.ask(context, queries, clients=1, what="large tenant")
    if not any(answer.chunks for answer in small):
        raise ProbeError(f"tenant {SMALL_TENANT} is served nothing: no leak could be seen")
    return {
        "small_tenant_recall_gain": paired_gain(
            [s.recall for s in small], [a.recall for a in large]
        ),
        "small_tenant_p95_seconds": percentile([s.seconds for s in small], 0.95),
        "large_tenant_p95_seconds": percentile([a.seconds for a in large], 0.95),
    }


@contextmanager
def _open_to_everybody(context: Context) -> Iterator[None]:
    names = TenantNames(TENANT)
    with owner(context) as connection:
        chunk = names.tables(active_generation(connection))["chunk"]
        parts = {"schema": sql.Identifier(names.schema), "chunk": chunk}
        try:
            connection.execute(sql.SQL(_OPEN).format(**parts))
            yield
        finally:
            connection.execute(sql.SQL(_CLOSE).format(**parts))


_OPEN = "GRANT USAGE ON SCHEMA {schema} TO PUBLIC; GRANT SELECT ON {chunk} TO PUBLIC"
_CLOSE = "REVOKE USAGE ON SCHEMA {schema} FROM PUBLIC; REVOKE SELECT ON {chunk} FROM PUBLIC"


GATE = Gate(
    id="tenant-isolation",
    phase=Phase.DATA,
    title="No tenant reads another's chunks, through the API, past it, or in SQL",
    promise="different business units cannot share vector database namespaces or LLM context",
    measure=measure,
    faults=(Fault("the large tenant's schema is open to everybody", _open_to_everybody),),
)
