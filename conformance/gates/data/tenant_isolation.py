"""tenant-isolation: a tenant gets nothing of another's, whatever way it tries."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import httpx

from conformance.corpora.model import LabelledQuery, sample
from conformance.corpora.prepare import SMALL_TENANT, TENANT, Prepared, prepared
from conformance.gate import Context, Fault, Gate, Measurement, Observation, Phase, ProbeError
from conformance.gates.data import _queries, _store
from conformance.gates.data._store.attempt import Attempt
from conformance.stats import exactly, paired_gain, percentile
from conformance.targets import answer_faults as faults
from conformance.targets.http import client as client_of

REFUSALS = {400, 401, 403, 422}
ANSWER_SECONDS = 120.0
BODY_FIELDS = ("tenant", "tenant_id", "collection", "namespace")
HEADERS = ("x-tenant", "x-rag-tenant", "x-rag-user", "x-rag-jwt-tenant", "x-tenant-id")


def measure(context: Context) -> Observation:
    """Leaks over every way in; and the small tenant is served as well as the large one."""
    both = prepared(context)
    attempts = [
        *_through_the_api(context, both),
        *_through_answers(context, both),
        *_forged(context, both),
        *_store.of(context).attempts(both),
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
    chunks = {item["chunk_id"]: item["doc_id"] for item in found}
    cited = [c for sentence in body.get("sentences", ()) for c in sentence["citations"]]
    chunks |= {chunk: chunk.rpartition("#")[0] for chunk in cited}
    return [chunk for chunk, document in chunks.items() if document not in own]


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


def _through_answers(context: Context, both: Prepared) -> Iterator[Attempt]:
    """Answers to the large tenant's own questions, made for the small tenant."""
    size, seed = int(context.parameter("answers")), int(context.parameter("seed"))
    asked = sample(_only_the_large_tenants(both), size, seed, "isolated answers")
    with context.target.gateway(SMALL_TENANT) as client:
        for done, query in enumerate(asked, 1):
            context.progress(done, len(asked), "foreign answers")
            response = client.post("/v1/answer", json={"question": query.text})
            if _queries.flagged(response):
                continue
            if response.status_code != httpx.codes.OK:
                raise ProbeError(f"gateway: HTTP {response.status_code}: {response.text[:200]}")
            yield _attempt("gateway: answer", response, both)


def _only_the_large_tenants(both: Prepared) -> list[LabelledQuery]:
    """Questions that no document of the small tenant answers, those with a gold answer first."""
    own = {document.id for document in both.small.corpus.documents}
    asked = [q for q in both.full.corpus.answerable if own.isdisjoint(q.relevant)]
    return [q for q in asked if q.facts] or asked


def _forged(context: Context, both: Prepared) -> Iterator[Attempt]:
    """The tenant named in the body, in headers, in the token; at the gateway and past it."""
    query = _only_the_large_tenants(both)[0].text
    for path, body in (("/v1/retrieve", {"query": query}), ("/v1/answer", {"question": query})):
        for place, client in (
            ("gateway", context.target.gateway(SMALL_TENANT)),
            ("retrieval", context.target.retrieval(SMALL_TENANT, timeout=ANSWER_SECONDS)),
        ):
            with client:
                for field in BODY_FIELDS:
                    response = client.post(path, json={**body, field: TENANT})
                    yield _attempt(f"{place}: {path} body {field}", response, both)
                for name in HEADERS:
                    response = client.post(path, json=body, headers={name: TENANT})
                    yield _attempt(f"{place}: {path} header {name}", response, both)
        with client_of(context.target.description.retrieval_url, ANSWER_SECONDS) as bare:
            for token in ("", "nonsense", context.target.jwt(TENANT)):
                response = bare.post(path, json=body, headers={"x-rag-tenant-token": token})
                yield _attempt(f"retrieval: {path} token {token[:8]!r}", response, both)


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
def _confused(context: Context) -> Iterator[None]:
    with faults.another_tenants_answers(context.target, TENANT):
        yield


@contextmanager
def _opened(context: Context) -> Iterator[None]:
    with _store.of(context).opened(SMALL_TENANT, TENANT):
        yield


GATE = Gate(
    id="tenant-isolation",
    phase=Phase.DATA,
    title="No tenant reads another's chunks, through the API, past it, or in the store",
    promise="different business units cannot share vector database namespaces or LLM context",
    measure=measure,
    faults=(
        Fault("the store lets others read the large tenant's passages", _opened),
        Fault("retrieval answers everybody as the large tenant", _confused),
    ),
)
