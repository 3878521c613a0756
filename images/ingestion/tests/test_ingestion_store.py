"""The real command against a real PostgreSQL, killed at random moments, and the sample documents."""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rag_ingestion.sync import ingest
from rag_store import open_admin, open_store
from rag_store.embedded import EmbeddedDatabase, embedded_database

SAMPLE = Path(__file__).parents[3] / "cli/src/ragctl/sample/documents"
RANDOM = random.Random(7)


@pytest.fixture(scope="module")
def pgvector() -> Iterator[EmbeddedDatabase]:
    # Not pytest's own folder: another session on the machine makes that private to its user again.
    with (
        tempfile.TemporaryDirectory(prefix="rag-ingest-") as folder,
        embedded_database(Path(folder), settings={"fsync": "off"}) as server,
    ):
        yield server


@pytest.fixture
async def tenants(pgvector):
    admin = open_admin(pgvector.url, pgvector.credentials["rag_admin"])
    for name in ("whole", "killed"):
        await admin.provision(name)
    yield
    for name in ("whole", "killed"):
        await admin.deprovision(name)
    await admin.close()


@pytest.fixture
def environment(pgvector, embedder) -> dict[str, str]:
    return os.environ | {
        "EMBEDDING_URL": embedder.url,
        "VECTOR_DB_URL": pgvector.url,
        "VECTOR_DB_CREDENTIALS_FILE": str(pgvector.credentials["rag_writer"]),
    }


def start(environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "rag_ingestion", *arguments]
    return subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def run(environment: dict[str, str], *arguments: str) -> tuple[int, str]:
    with start(environment, *arguments) as process:
        _, errors = process.communicate(timeout=120)
    return process.returncode, errors


async def content(pgvector, tenant: str) -> dict[str, Any]:
    """Everything of the active generation that a run decides."""
    store = open_store(pgvector.url, pgvector.credentials["rag_writer"])
    try:
        generation = await store.active_generation(tenant)
        rows = {}
        async for batch in store.scan(tenant, generation.id):
            for document, chunks in batch:
                rows[document.doc_id] = (
                    document.content_hash,
                    document.title,
                    [(c.chunk.chunk_id, c.chunk.text, c.dense.tobytes(), c.late) for c in chunks],
                )
        return rows
    finally:
        await store.close()


def write_documents(folder: Path, count: int, edition: str) -> None:
    for i in range(count):
        words = " ".join(f"{edition}{i}word{j}" for j in range(50 + 17 * i % 400))
        (folder / f"{i:03}.md").write_text(f"# Document {i}\n\n{words}\n")


async def test_killed_runs_end_in_the_same_index(
    folder, environment, pgvector, tenants, embedder, tmp_path
):
    write_documents(folder, 80, "first")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 and no more")
    assert run(environment, str(folder), "--tenant", "killed")[0] == 0
    write_documents(folder, 60, "second")
    for i in range(70, 80):
        (folder / f"{i:03}.md").unlink()
    (folder / "new.txt").write_text("new")

    stopped = 0
    while stopped < 3:
        before = len(embedder.texts)
        process = start(environment, str(folder), "--tenant", "killed")
        while len(embedder.texts) == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(RANDOM.uniform(0, 0.2))
        if process.poll() is not None:
            break
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        stopped += 1
    assert stopped >= 2

    report_file = tmp_path / "report.json"
    code, errors = run(environment, str(folder), "--tenant", "killed", "--json", str(report_file))
    assert code == 0, errors
    assert run(environment, str(folder), "--tenant", "whole")[0] == 0
    killed, whole = await content(pgvector, "killed"), await content(pgvector, "whole")
    assert killed == whole
    assert len(whole) == 71

    report = json.loads(report_file.read_text())
    assert report["tenant"] == "killed"
    assert [entry["reason"] for entry in report["set_aside"]] == ["corrupt"]
    assert report["documents_per_second"] >= 0
    assert "corrupt" in errors


@pytest.fixture
def stuck(folder, environment, embedder):
    """A command that holds the index and waits for the embedding service."""
    write_documents(folder, 3, "x")
    embedder.waiting = True
    with start(environment, str(folder), "--tenant", "whole") as process:
        deadline = time.monotonic() + 60
        while not embedder.asked and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert process.poll() is None
        yield process
        embedder.waiting = False
        process.communicate(timeout=120)


async def test_a_second_command_is_refused(folder, environment, tenants, stuck, embedder):
    code, errors = run(environment, str(folder), "--tenant", "whole")
    assert code == 3
    assert "tenant 'whole': another session (backend " in errors
    embedder.waiting = False
    assert run(environment, str(folder), "--tenant", "killed")[0] == 0
    assert stuck.wait(60) == 0


async def test_a_killed_command_frees_the_index(folder, environment, tenants, stuck, embedder):
    os.killpg(stuck.pid, signal.SIGKILL)
    embedder.waiting = False
    code, errors = run(environment, str(folder), "--tenant", "whole")
    assert code == 0, errors
    assert stuck.wait(60) == -signal.SIGKILL


async def test_a_command_whose_lock_is_lost_ends(
    folder, environment, pgvector, tenants, stuck, embedder
):
    query = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
    with psycopg.connect(pgvector.superuser_dsn) as connection:
        assert connection.execute(query).fetchall() == [(True,)]
    embedder.waiting = False
    _, errors = stuck.communicate(timeout=60)
    assert stuck.returncode == 1
    assert "another may write now" in errors


async def test_the_sample_documents(settings, pgvector, tenants):
    store = open_store(pgvector.url, pgvector.credentials["rag_writer"])
    report = await ingest(str(SAMPLE), "whole", settings, store=store)
    await store.close()
    assert [(Path(e.uri).name, e.reason) for e in report.set_aside] == [
        ("pension-plan.pdf", "corrupt")
    ]
    rows = await content(pgvector, "whole")
    titles = {Path(key).name: row[1] for key, row in rows.items()}
    assert titles["travel-expenses.md"] == "Travel and Expense Policy"
    assert titles["interest-rates.xlsx"] == "interest rates"
    assert titles["sepsis.pptx"] == "Sepsis: the first hour"
    text = "\n".join(text for row in rows.values() for _, text, _, _ in row[2])
    facts = ("240 euros", "2.25 %", "90 \nminutes", "NEWS2 score of 7", "10,000 euros", "72 euros")
    assert [fact for fact in facts if " ".join(fact.split()) not in " ".join(text.split())] == []
