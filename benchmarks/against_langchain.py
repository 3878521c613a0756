"""The service against the same pipeline assembled from LangChain, in requests a second.

Both read the same PostgreSQL (LangChain's table is a copy of the service's rows, with the same HNSW
parameters), ask the same embedder, rerank twenty candidates by the same MaxSim and answer over the
same server library. `cold` embeds every query, `warm` remembers them: the service in Valkey,
LangChain in its own memory. The service also checks a tenant's token, takes the tenant's role and
makes an audit record durable, which the other side is spared.
"""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import psycopg
from psycopg import sql

from benchmarks import BLAS_THREADS
from benchmarks._fitz_index import MODEL, TENANT, Corpus, Index, index
from benchmarks._load import Load, compare, in_a_folder, quick_look
from benchmarks._processes import Client, Services, process, services
from conformance.locked import environment
from rag_store.factory import DEFAULT_HNSW
from rag_store.pgvector.names import TenantNames

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements/langchain.txt"
TARGET, SIDES = 2.0, ("cold", "warm")
_TABLE = """
CREATE SCHEMA langchain;
CREATE TABLE langchain.chunk AS
    SELECT gen_random_uuid() AS langchain_id, body AS content, dense AS embedding,
        to_tsvector('pg_catalog.english', title || ' ' || body) AS content_tsv,
        chunk_id, doc_id, uri, title, late
    FROM {chunk} JOIN {document} USING (doc_id);
ALTER TABLE langchain.chunk ADD PRIMARY KEY (langchain_id);
CREATE INDEX ON langchain.chunk USING hnsw (embedding vector_cosine_ops)
    WITH (m = {m}, ef_construction = {ef_construction});
CREATE INDEX ON langchain.chunk USING gin (content_tsv);
"""


def interpreter() -> Path:
    """The Python of a venv in the user's cache that holds exactly `LOCK`; made when missing."""
    return environment("benchmark-langchain", LOCK) / "bin/python"


def _versions() -> dict[str, str]:
    return dict(re.findall(r"^(langchain[a-z-]*)==(\S+)", LOCK.read_text(), re.M))


def _copy(built: Index) -> None:
    """LangChain's table beside the service's, with the same rows."""
    numbers = {
        "m": sql.Literal(DEFAULT_HNSW.m),
        "ef_construction": sql.Literal(DEFAULT_HNSW.ef_construction),
    }
    tables = TenantNames(TENANT).tables(built.generation)
    with psycopg.connect(built.database.superuser_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL(_TABLE).format(**numbers, **tables))
        connection.execute("VACUUM ANALYZE langchain.chunk")


@asynccontextmanager
async def _langchain(
    folder: Path, built: Index, running: Services
) -> AsyncIterator[dict[str, tuple[Client, Mapping[str, int]]]]:
    """Its service cold and warm, and the processes behind each."""
    _copy(built)
    command = (str(interpreter()), "-m", "benchmarks._langchain_service")
    settings = {
        "DATABASE_URL": built.database.superuser_dsn.replace("://", "+asyncpg://"),
        "EMBEDDING_URL": running.embedding,
        "EMBEDDING_MODEL": MODEL,
        BLAS_THREADS: "1",
        "PYTHONPATH": f"{ROOT}:{ROOT}/images/common/src",
    }
    found = {}
    async with AsyncExitStack() as stack:
        for name in SIDES:
            cache = {"QUERY_CACHE": "on" if name == "warm" else "off"}
            socket = folder / f"langchain-{name}.sock"
            pid = await stack.enter_async_context(process(command, socket, settings | cache))
            found[name] = Client(socket, running.minter), running.behind | {"service": pid}
        yield found


async def _quality(client: Client, bodies: Sequence[bytes], corpus: Corpus) -> float:
    """The share of questions with an answering document among the five results."""
    indexed = {document.doc_id for document, _ in corpus.documents}
    hits = []
    for question, body in zip(corpus.questions, bodies, strict=False):
        if wanted := corpus.relevant[question] & indexed:
            results = orjson.loads(await client.ask("/v1/retrieve", body))["results"]
            hits.append(any(result["doc_id"] in wanted for result in results))
    return round(sum(hits) / len(hits), 3) if hits else 0.0


def _times(measured: Mapping[str, Any]) -> dict[str, Any]:
    """The service's requests a second as a multiple of LangChain's, by number of askers."""
    return {
        askers: {
            name: round(
                at[f"service_{name}"]["per_second"] / at[f"langchain_{name}"]["per_second"], 2
            )
            for name in SIDES
        }
        for askers, at in measured.items()
    }


async def _run(folder: Path, size: int | None, load: Load) -> dict[str, Any]:
    async with (
        index(folder, size) as built,
        services(folder, built) as running,
        _langchain(folder, built, running) as theirs,
    ):
        corpus = built.corpus
        bodies = [orjson.dumps({"query": q}) for q in corpus.questions[: load.questions]]
        ours = {"cold": running.cold, "warm": running.warm}
        clients = {f"service_{name}": ours[name] for name in SIDES}
        clients |= {f"langchain_{name}": theirs[name] for name in SIDES}
        sides = {name: client.side(bodies, pids) for name, (client, pids) in clients.items()}
        measured = await compare(sides, load)
        return {
            "documents": len(corpus.documents),
            "questions": load.questions,
            "versions": _versions(),
            "times_langchain": _times(measured) | {"target": TARGET},
            "answering_document_in_top_5": {
                "service": await _quality(ours["cold"][0], bodies, corpus),
                "langchain": await _quality(theirs["cold"][0], bodies, corpus),
            },
            **measured,
        }


def run(size: int | None = None, load: Load | None = None) -> dict[str, Any]:
    """Latency, throughput and processor time of each side, over `size` or all documents."""
    return in_a_folder(_run, size, load)


if __name__ == "__main__":
    quick_look(run)
