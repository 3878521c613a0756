"""One writer of a tenant's index at a time: in every store, and what frees it."""

import asyncio
import os
import time
import uuid

import psycopg
import pytest

from rag_store import open_admin, open_store
from rag_store.base import IndexBusyError, StoreError, StoreUnavailableError, UnknownTenantError
from rag_store.pgvector import lock
from rag_store.pgvector.names import TenantNames
from rag_store.versioned import lease
from rag_store.versioned.lease import exclusive


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setitem(lock._SETTINGS, "lock_timeout", "200ms")


async def _refused(store, tenant):
    with pytest.raises(IndexBusyError, match="writes its index"):
        async with store.exclusive(tenant):
            pytest.fail("two writers")


async def test_one_writer_a_tenant(backend):
    one, two = await backend.tenant(), await backend.tenant()
    async with backend.writer.exclusive(one) as held, backend.writer.exclusive(two):
        await held.check()
        await _refused(backend.writer, one)
        await held.check()
    async with backend.writer.exclusive(one):
        pass


async def test_of_many_at_once_at_most_one_writes(backend):
    tenant, inside, most = await backend.tenant(), 0, 0

    async def write():
        nonlocal inside, most
        async with backend.writer.exclusive(tenant):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.05)
            inside -= 1

    ends = await asyncio.gather(*(write() for _ in range(8)), return_exceptions=True)
    assert {type(end) for end in ends} <= {type(None), IndexBusyError}
    assert most <= 1
    async with backend.writer.exclusive(tenant):
        pass


async def test_an_error_in_the_block_frees_it_and_passes(backend):
    tenant = await backend.tenant()
    with pytest.raises(ZeroDivisionError):
        async with backend.writer.exclusive(tenant):
            raise ZeroDivisionError
    async with backend.writer.exclusive(tenant):
        pass


@pytest.mark.parametrize("name", ["nobody-here", "Not A Name"])
async def test_an_unknown_tenant_has_no_index_to_hold(backend, name):
    with pytest.raises(UnknownTenantError):
        async with backend.writer.exclusive(name):
            pytest.fail("held")


async def test_generations_and_syncs_do_not_see_claims(backend, data):
    tenant = await backend.tenant()
    generation = await data.fill(backend.writer, tenant, 1)
    async with backend.writer.exclusive(tenant):
        assert [g.id for g in await backend.reader.generations(tenant)] == [generation]
        assert await backend.reader.sync_state(tenant) is None


@pytest.fixture
async def postgres(database):
    """A tenant, a writer's and a reader's store, and the superuser's query."""
    tenant, files = f"x-{uuid.uuid4().hex[:8]}", database.credentials
    admin = open_admin(database.url, files["rag_admin"])
    await admin.provision(tenant)
    writer, reader = (open_store(database.url, files[f"rag_{n}"]) for n in ("writer", "reader"))

    def query(statement):
        with psycopg.connect(database.superuser_dsn, autocommit=True) as connection:
            return connection.execute(statement).fetchall()

    yield tenant, writer, reader, query
    await admin.deprovision(tenant)
    for part in (writer, reader, admin):
        await part.close()


async def test_the_reader_cannot_hold_it(postgres):
    tenant, _, reader, _ = postgres
    with pytest.raises(StoreError, match="may not do this"):
        async with reader.exclusive(tenant):
            pytest.fail("held")


async def test_a_terminated_session_is_a_lost_lock(postgres):
    tenant, writer, _, query = postgres
    async with writer.exclusive(tenant) as held:
        ((backend, _, _),) = query(lock._HOLDER.replace("%s", f"'writer of {_schema(tenant)}'"))
        query(f"SELECT pg_terminate_backend({backend}, 5000)")
        with pytest.raises(StoreUnavailableError, match="another may write now"):
            await held.check()
        async with writer.exclusive(tenant) as other:
            await other.check()


async def test_a_refusal_names_the_holder_and_no_more(postgres):
    tenant, writer, _, query = postgres
    async with writer.exclusive(tenant):
        ((backend,),) = query("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted")
        with pytest.raises(
            IndexBusyError, match=rf"\(backend {backend} from this machine since 20"
        ):
            async with writer.exclusive(tenant):
                pytest.fail("two writers")
    assert query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]


def _schema(tenant):
    return TenantNames(tenant).schema


class Memory:
    """A registry that can be told to fail."""

    def __init__(self):
        self.records, self.fails = {}, set()

    async def _act(self, name):
        await asyncio.sleep(0)
        if name in self.fails:
            raise StoreUnavailableError("down")

    async def read(self, tenant):
        await self._act("read")
        return dict(self.records)

    async def put(self, tenant, key, body):
        await self._act("put")
        self.records[key] = body

    async def remove(self, tenant, key):
        await self._act("remove")
        self.records.pop(key, None)


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.5)
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.1)
    return Memory()


async def test_a_claim_is_renewed_while_it_is_held(registry):
    async with exclusive(registry, "acme") as held:
        await asyncio.sleep(1)
        await held.check()
        with pytest.raises(IndexBusyError, match=f":{os.getpid()} writes its index"):
            async with exclusive(registry, "acme"):
                pytest.fail("two writers")
    assert registry.records == {}


async def test_the_claim_of_a_dead_writer_becomes_void(registry):
    registry.records["claim-dead"] = {"holder": "gone:1", "until": time.time() + 0.3}
    with pytest.raises(IndexBusyError, match="gone:1"):
        async with exclusive(registry, "acme"):
            pytest.fail("two writers")
    await asyncio.sleep(0.4)
    async with exclusive(registry, "acme"):
        assert "claim-dead" not in registry.records


async def test_a_claim_that_could_not_be_renewed_is_lost_for_good(registry):
    async with exclusive(registry, "acme") as held:
        registry.fails = {"put"}
        await asyncio.sleep(0.3)
        await held.check()
        await asyncio.sleep(0.4)
        registry.fails = set()
        async with exclusive(registry, "acme"):
            await asyncio.sleep(0.3)
            with pytest.raises(StoreUnavailableError, match="another may write now"):
                await held.check()


async def test_a_claim_whose_rivals_cannot_be_read_is_given_up(registry):
    registry.fails = {"read"}
    with pytest.raises(StoreUnavailableError):
        async with exclusive(registry, "acme"):
            pytest.fail("held")
    assert registry.records == {}


async def test_a_claim_that_cannot_be_given_up_becomes_void(registry):
    async with exclusive(registry, "acme"):
        registry.fails = {"remove"}
    registry.fails = set()
    with pytest.raises(IndexBusyError):
        async with exclusive(registry, "acme"):
            pytest.fail("two writers")
    await asyncio.sleep(0.5)
    async with exclusive(registry, "acme"):
        pass
