"""Backup and restore with the real scripts: dumped, kept in the object store, fetched, searched elsewhere."""

import os
import subprocess
import sys
import time
from datetime import UTC, datetime

import numpy as np
import pytest

from conformance.static import environment
from conformance.static.environment import ROOT
from conformance.static.finding import identity
from conformance.static.render import render
from conformance.tests import _object_store
from conformance.tests._store_pods import CONFIG, Pod, credentials, free_port, workplace
from rag_store import open_admin, open_store
from rag_store.base import Chunk, Document, EmbeddedChunk, EmbeddingModel, SearchMode

pytestmark = [pytest.mark.timeout(600)]
MODEL = EmbeddingModel("m", "sha256:m", 16)
TENANTS = ("bank", "hospital-a")
PASSWORD = "of-this-test-only"


@pytest.fixture(scope="module")
def folder():
    with workplace() as made:
        yield made


@pytest.fixture(scope="module")
def primary(folder):
    pod = Pod(folder / "primary", free_port(), "primary.sh")
    pod.prepare()
    pod.secret("vault-password", PASSWORD)
    pod.start()
    for login in ("rag_admin", "rag_writer", "rag_reader", "backup"):
        pod.sql(f"ALTER ROLE {login} PASSWORD '{PASSWORD}'")
    pod.secret("pgpass", f"*:*:*:backup:{PASSWORD}")
    yield pod
    pod.stop()


def _login(folder, name):
    return credentials(folder / f"{name}.json", {"username": name, "password": PASSWORD})


async def _fill(url, folder):
    admin = open_admin(url, _login(folder, "rag_admin"))
    store = open_store(url, _login(folder, "rag_writer"))
    random = np.random.default_rng(1)
    for tenant in TENANTS:
        await admin.provision(tenant)
        generation = await store.ensure_generation(tenant, MODEL)
        for number in range(60):
            dense = random.normal(size=16).astype(np.float32)
            name = f"{number}.md"
            text = f"passage {number} of {tenant}"
            chunk = Chunk(f"{name}#0", name, 0, text, (), 0, len(text), 4)
            embedded = EmbeddedChunk(chunk, dense / np.linalg.norm(dense))
            document = Document(name, name, name, str(number), datetime.now(UTC))
            await store.upsert(tenant, generation.id, document, [embedded])
        await store.activate(tenant, generation.id)
    await store.close()
    await admin.close()


async def _found(url, folder, tenant):
    store = open_store(url, _login(folder, "rag_reader"))
    vector = np.ones(16, dtype=np.float32) / 4
    try:
        hits = await store.search(tenant, "passage 7", vector, mode=SearchMode.HYBRID, limit=10)
        generation = await store.active_generation(tenant)
        return [h.chunk.chunk_id for h in hits], await store.hnsw(tenant, generation.id)
    finally:
        await store.close()


@pytest.fixture(scope="module")
def objects(folder):
    place = folder / "weed"
    place.mkdir()
    with _object_store.running(place) as store:
        store.client("rag-ingestion/buckets").create_bucket(Bucket="backups")
        yield store


def _backups(objects, folder, *words):
    keys = objects.keys("rag-vectordb/backup", folder)
    more = {"S3_ENDPOINT_URL": objects.url, "S3_CREDENTIALS_FILE": str(keys)}
    return subprocess.run(
        [sys.executable, CONFIG / "backups.py", *map(str, words)],
        env={**os.environ, **more},
        capture_output=True,
        text=True,
    )


def _dump(primary, into):
    into.mkdir(exist_ok=True)
    into.chmod(0o777)
    primary.extra |= {
        "BACKUP": str(into),
        "PGHOST": "127.0.0.1",
        "PGUSER": "backup",
        "PGDATABASE": "rag",
        "PGPASSFILE": str(primary.secrets / "pgpass"),
    }
    try:
        return primary.run("sh", str(primary.root / "config/dump.sh"))
    finally:
        primary.extra.clear()


def test_a_store_without_tenants_is_no_backup(primary, folder):
    done = _dump(primary, folder / "empty")
    assert done.returncode == 1
    assert "nothing to back up" in done.stderr
    assert not (folder / "empty/complete").exists()


async def test_what_was_dumped_is_searched_elsewhere_with_the_same_result(primary, objects, folder):
    await _fill(primary.url(), folder)
    done = _dump(primary, folder / "dumps")
    assert done.returncode == 0, done.stderr
    kept = _backups(objects, folder, "keep", folder / "dumps", 2)
    assert kept.returncode == 0, kept.stderr
    fetched = folder / "fetched"
    fetched.mkdir()
    got = _backups(objects, folder, "fetch", fetched)
    assert got.returncode == 0, got.stderr
    scratch = Pod(folder / "scratch", free_port(), "restore.sh")
    scratch.extra = {
        "BACKUP": str(fetched),
        "KEEP_SECONDS": "120",
        "RUN": str(folder / "scratch/run"),
    }
    scratch.prepare()
    scratch.start()
    try:
        scratch.sql(f"ALTER ROLE rag_reader PASSWORD '{PASSWORD}'")
        for tenant in TENANTS:
            before = await _found(primary.url(), folder, tenant)
            assert len(before[0]) == 10
            assert await _found(scratch.url(), folder, tenant) == before
        tables = "SELECT count(*) FROM pg_tables WHERE schemaname LIKE 'tenant%'"
        owner = " AND tableowner = schemaname || '_writer'"
        assert scratch.sql(tables) == scratch.sql(tables + owner)
    finally:
        scratch.stop()


def test_the_oldest_go_and_a_half_backup_is_none(objects, folder):
    client = objects.client("rag-vectordb/backup")
    client.put_object(Bucket="backups", Key="20990101T000000Z/tenant_bank.dump", Body=b"half")
    before = time.time()
    while len(_names(client)) < 2 or time.time() - before < 2.1:
        assert _backups(objects, folder, "keep", folder / "dumps", 2).returncode == 0
        time.sleep(1)
    assert len(_names(client)) == 2
    target = folder / "again"
    target.mkdir()
    assert _backups(objects, folder, "fetch", target).stdout.split()[1] == _names(client)[-1]


def test_a_damaged_or_unknown_backup_is_refused(objects, folder):
    client = objects.client("rag-vectordb/backup")
    newest = _names(client)[-1]
    key = f"{newest}/tenant_bank.dump"
    client.put_object(Bucket="backups", Key=key, Body=b"changed")
    target = folder / "damaged"
    target.mkdir()
    done = _backups(objects, folder, "fetch", target)
    assert done.returncode == 1
    assert "tenant_bank.dump is not what was uploaded" in done.stderr
    assert not (target / "complete").exists()
    assert (
        "no complete backup nothing" in _backups(objects, folder, "fetch", target, "nothing").stderr
    )


def _names(client):
    found = client.list_objects_v2(Bucket="backups")["Contents"]
    return sorted(e["Key"].split("/")[0] for e in found if e["Key"].endswith("manifest.json"))


def test_the_restore_uses_the_running_stores_files():
    items = render(ROOT / "apps/vectordb/restore/lab")
    ours = {identity(item) for item in items}
    lab = {identity(item) for item in environment.load("lab").objects}
    assert ours - lab == {("batch", "Job", "rag-vectordb", "restore")}
