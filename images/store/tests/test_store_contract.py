"""One contract for every store."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from rag_common.tenancy import InvalidTenantError
from rag_store.base import (
    Counts,
    GenerationState,
    HnswParameters,
    ModelMismatchError,
    NoActiveGenerationError,
    SearchMode,
    StoreAdmin,
    StoreError,
    StoreUnavailableError,
    SyncState,
    UnknownTenantError,
    VectorStore,
)
from rag_store.bm25 import document_vector, query_terms, query_vector

DENSE, LEXICAL, HYBRID = SearchMode.DENSE, SearchMode.LEXICAL, SearchMode.HYBRID


async def _ids(store, tenant, text, dense, **options):
    return [hit.chunk.chunk_id for hit in await store.search(tenant, text, dense, **options)]


async def _scanned(store, tenant, generation, **options):
    return [pair async for page in store.scan(tenant, generation, **options) for pair in page]


def test_an_optional_store_is_under_this_contract(optional_backend, backends):
    assert optional_backend in backends


async def test_it_is_a_store(backend):
    assert isinstance(backend.writer, VectorStore)
    assert isinstance(backend.admin, StoreAdmin)
    await backend.reader.ping()


async def test_provisioning_is_idempotent_and_listed(backend):
    tenant = await backend.tenant()
    await backend.admin.provision(tenant)
    assert tenant in await backend.reader.tenants()
    assert await backend.admin.remains(tenant)
    await backend.admin.deprovision(tenant)
    assert await backend.admin.remains(tenant) == []
    await backend.admin.deprovision(tenant)
    assert tenant not in await backend.reader.tenants()


async def test_a_tenant_comes_back_empty_after_deprovisioning(backend, data):
    tenant = await backend.tenant()
    await data.fill(backend.writer, tenant, 2)
    await backend.admin.deprovision(tenant)
    await backend.admin.provision(tenant)
    assert await backend.reader.generations(tenant) == []


@pytest.mark.parametrize("name", ["nobody-here", "Not A Name", "a_b", 'x"; DROP'])
async def test_unknown_tenants_are_named_as_such(backend, data, name):
    reads = backend.reader
    for call in (
        reads.search(name, "x", data.vector(1)),
        reads.generations(name),
        reads.active_generation(name),
        reads.counts(name, "0123456789ab"),
        reads.documents(name, "0123456789ab"),
        reads.sync_state(name),
        backend.writer.ensure_generation(name, data.model),
        backend.writer.upsert(name, "0123456789ab", data.document("d"), []),
        backend.writer.record_sync(name, SyncState(datetime.now(UTC), None, 0, 0)),
    ):
        with pytest.raises(UnknownTenantError):
            await call


async def test_a_bad_name_cannot_be_provisioned(backend):
    with pytest.raises((UnknownTenantError, InvalidTenantError)):
        await backend.admin.provision("No Such Name")


async def test_a_new_tenant_has_no_active_generation(backend, data):
    tenant = await backend.tenant()
    assert await backend.reader.generations(tenant) == []
    await backend.writer.ensure_generation(tenant, data.model)
    with pytest.raises(NoActiveGenerationError):
        await backend.reader.active_generation(tenant)
    with pytest.raises(NoActiveGenerationError):
        await backend.reader.search(tenant, "x", data.vector(1))


async def test_an_empty_generation_finds_nothing(backend, data):
    tenant = await backend.tenant()
    generation = await data.fill(backend.writer, tenant, 0)
    for mode in SearchMode:
        assert await backend.reader.search(tenant, "policy", data.vector(1), mode=mode) == []
    assert await backend.reader.counts(tenant, generation) == Counts(0, 0)
    assert await backend.reader.documents(tenant, generation) == {}
    assert await _scanned(backend.reader, tenant, generation) == []


async def test_a_stored_document_comes_back_whole(backend, data):
    tenant = await backend.tenant()
    generation = await data.fill(backend.writer, tenant, 0)
    document = data.document("a/ü 文.md", title="Ärger — «quoted» 🙂\x00")
    chunks = data.chunks(document.doc_id, "Überweisung naïve 東京 🙂", "second\x00 part", seed=5)
    await backend.writer.upsert(tenant, generation, document, chunks)
    ((found, found_chunks),) = await _scanned(backend.reader, tenant, generation)
    shown = replace(document, title=document.title.replace("\x00", "\ufffd"))
    assert found in (document, shown)
    assert await backend.reader.documents(tenant, generation) == {document.doc_id: found}
    assert [item.chunk.ordinal for item in found_chunks] == [0, 1]
    assert found_chunks[0].chunk == chunks[0].chunk
    assert len(found_chunks[1].chunk.text) == len(chunks[1].chunk.text)
    for before, after in zip(chunks, found_chunks, strict=True):
        np.testing.assert_allclose(after.dense, before.dense, atol=1e-6)
        assert after.dense.dtype == np.float32
        assert after.late == before.late
    hits = await backend.reader.search(tenant, "überweisung", None, mode=LEXICAL)
    assert [hit.chunk for hit in hits] == [chunks[0].chunk]
    assert (hits[0].document_uri, hits[0].document_title) == (found.uri, found.title)


async def test_late_vectors_come_only_on_request(backend, data):
    tenant = await backend.tenant()
    await data.fill(backend.writer, tenant, 3)
    plain = await backend.reader.search(tenant, "policy", data.vector(1))
    late = await backend.reader.search(tenant, "policy", data.vector(1), with_late=True)
    assert {hit.late for hit in plain} == {None}
    assert all(hit.late == f"late {hit.chunk.doc_id} {hit.chunk.ordinal}".encode() for hit in late)


async def test_a_chunk_without_late_vectors(backend, data):
    tenant = await backend.tenant()
    generation = await data.fill(backend.writer, tenant, 0)
    chunks = [replace(item, late=None) for item in data.chunks("d", "some text")]
    await backend.writer.upsert(tenant, generation, data.document("d"), chunks)
    (hit,) = await backend.reader.search(tenant, "text", chunks[0].dense, with_late=True)
    assert hit.late is None


async def test_replacing_leaves_nothing_of_the_old(backend, data):
    tenant = await backend.tenant()
    generation = await data.fill(backend.writer, tenant, 4)
    changed = data.document("d01", title="New", content_hash="other")
    await backend.writer.upsert(tenant, generation, changed, data.chunks("d01", "fresh words"))
    assert await backend.reader.counts(tenant, generation) == Counts(4, 7)
    assert (await backend.reader.documents(tenant, generation))["d01"] == changed
    assert await _ids(backend.reader, tenant, "number1", None, mode=LEXICAL) == []
    assert await _ids(backend.reader, tenant, "fresh", None, mode=LEXICAL) == ["d01#0"]


async def test_a_document_may_have_no_chunks(backend, data):
    tenant = await backend.tenant()
    generation = await data.fill(backend.writer, tenant, 2)
    await backend.writer.upsert(tenant, generation, data.document("empty"), [])
    await backend.writer.upsert(tenant, generation, data.document("d01"), [])
    assert await backend.reader.counts(tenant, generation) == Counts(3, 2)
    scanned = await _scanned(backend.reader, tenant, generation)
    assert [(d.doc_id, len(c)) for d, c in scanned] == [("d00", 2), ("d01", 0), ("empty", 0)]


async def test_deleting(backend, data):
    tenant = await backend.tenant()
    generation = await data.fill(backend.writer, tenant, 5)
    await backend.writer.delete(tenant, generation, ["d03", "unknown", "d00"])
    await backend.writer.delete(tenant, generation, [])
    assert set(await backend.reader.documents(tenant, generation)) == {"d01", "d02", "d04"}
    assert await backend.reader.counts(tenant, generation) == Counts(3, 6)
    for mode in SearchMode:
        found = await _ids(backend.reader, tenant, "policy number3", data.vector(3000), mode=mode)
        assert not {"d03#0", "d03#1", "d00#0", "d00#1"} & set(found)


def _expected_bm25(data, documents, query):
    items = [item for n in documents for item in data.two(n)]
    texts = {i.chunk.chunk_id: f"Handbook\nPart > One\n{i.chunk.text}" for i in items}
    vectors = {key: document_vector(text) for key, text in texts.items()}
    frequencies = {t: sum(t in v for v in vectors.values()) for t in query_terms(query)}
    weights = query_vector(query, len(texts), frequencies)
    scores = {k: sum(w * v.get(t, 0) for t, w in weights.items()) for k, v in vectors.items()}
    return {key: score for key, score in scores.items() if score > 0}


@pytest.mark.parametrize("query", ["invoice", "security policies", "approve number4 holidays"])
async def test_lexical_scores_are_bm25(backend, data, query):
    tenant = await backend.tenant()
    await data.fill(backend.writer, tenant, 12)
    hits = await backend.reader.search(tenant, query, None, mode=LEXICAL, limit=100)
    expected = _expected_bm25(data, range(12), query)
    assert {hit.chunk.chunk_id: hit.score for hit in hits} == pytest.approx(expected, rel=1e-4)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert [hit.lexical_rank for hit in hits] == list(range(1, len(hits) + 1))
    assert all(hit.lexical_score == hit.score and hit.dense_rank is None for hit in hits)


async def test_lexical_scores_follow_deletes_and_updates(backend, data):
    tenant = await backend.tenant()
    generation = await data.fill(backend.writer, tenant, 12)
    await backend.writer.delete(tenant, generation, ["d02", "d08"])
    await backend.writer.upsert(tenant, generation, data.document("d04"), data.two(4))
    await backend.writer.optimize(tenant, generation)
    hits = await backend.reader.search(tenant, "security policy", None, mode=LEXICAL, limit=100)
    left = [n for n in range(12) if n not in (2, 8)]
    expected = _expected_bm25(data, left, "security policy")
    assert {hit.chunk.chunk_id: hit.score for hit in hits} == pytest.approx(expected, rel=1e-4)


async def test_dense_scores_are_cosines(backend, data):
    tenant = await backend.tenant()
    await data.fill(backend.writer, tenant, 12)
    query = data.vector(77)
    items = [item for n in range(12) for item in data.two(n)]
    cosines = {item.chunk.chunk_id: float(item.dense @ query) for item in items}
    best = sorted(cosines, key=lambda key: -cosines[key])[:7]
    for exact in (False, True):
        hits = await backend.reader.search(
            tenant, "ignored", query, mode=DENSE, limit=7, exact=exact
        )
        assert [hit.chunk.chunk_id for hit in hits] == best
        assert [hit.score for hit in hits] == pytest.approx([cosines[k] for k in best], abs=1e-5)
        assert [hit.dense_rank for hit in hits] == [1, 2, 3, 4, 5, 6, 7]
        assert all(hit.lexical_rank is None and hit.lexical_score is None for hit in hits)


async def test_hybrid_is_rrf_of_the_two_legs(backend, data):
    tenant = await backend.tenant()
    await data.fill(backend.writer, tenant, 12)
    query, text = data.vector(77), "security policy number3"
    legs = [
        await _ids(backend.reader, tenant, text, query, mode=mode, limit=6)
        for mode in (DENSE, LEXICAL)
    ]
    scores = {
        key: sum(1 / (61 + leg.index(key)) for leg in legs if key in leg)
        for key in {*legs[0], *legs[1]}
    }
    hits = await backend.reader.search(tenant, text, query, limit=6)
    expected = sorted(scores, key=lambda key: (-scores[key], key))[:6]
    assert [hit.chunk.chunk_id for hit in hits] == expected
    assert [hit.score for hit in hits] == pytest.approx([scores[key] for key in expected])
    for hit in hits:
        ranks = [
            leg.index(hit.chunk.chunk_id) + 1 if hit.chunk.chunk_id in leg else None for leg in legs
        ]
        assert [hit.dense_rank, hit.lexical_rank] == ranks


@pytest.mark.parametrize("text", ["", "the of and", "zyxwvut", "?!"])
async def test_a_text_that_matches_nothing_leaves_the_dense_leg(backend, data, text):
    tenant = await backend.tenant()
    await data.fill(backend.writer, tenant, 4)
    assert await _ids(backend.reader, tenant, text, None, mode=LEXICAL) == []
    query = data.vector(9)
    dense = await _ids(backend.reader, tenant, text, query, mode=DENSE)
    assert await _ids(backend.reader, tenant, text, query, mode=HYBRID) == dense
    assert len(dense) == 8


async def test_the_limit_holds_in_every_mode(backend, data):
    tenant = await backend.tenant()
    await data.fill(backend.writer, tenant, 12)
    for mode in SearchMode:
        for limit in (1, 5):
            found = await _ids(
                backend.reader, tenant, "policy", data.vector(1), mode=mode, limit=limit
            )
            assert len(found) == limit


async def test_searches_that_make_no_sense_are_refused(backend, data):
    tenant = await backend.tenant()
    await data.fill(backend.writer, tenant, 1)
    bad = np.full(data.model.dimension, np.nan, dtype=np.float32)
    for dense, options in (
        (None, {"mode": DENSE}),
        (None, {"mode": HYBRID}),
        (data.vector(1), {"limit": 0}),
        (bad, {}),
    ):
        with pytest.raises(StoreError):
            await backend.reader.search(tenant, "x", dense, **options)


async def test_vectors_that_cannot_be_indexed_are_refused(backend, data):
    tenant = await backend.tenant()
    generation = await data.fill(backend.writer, tenant, 1)
    (good,) = data.chunks("d", "text")
    zero = np.zeros(data.model.dimension, dtype=np.float32)
    for bad in (
        replace(good, dense=zero),
        replace(good, dense=np.full_like(zero, np.inf)),
        replace(good, dense=zero[:4]),
        replace(good, chunk=replace(good.chunk, doc_id="another")),
    ):
        with pytest.raises(StoreError):
            await backend.writer.upsert(tenant, generation, data.document("d"), [bad])
    assert await backend.reader.counts(tenant, generation) == Counts(1, 2)


async def test_a_models_generation_is_made_once(backend, data):
    tenant = await backend.tenant()
    first, again = [await backend.writer.ensure_generation(tenant, data.model) for _ in range(2)]
    other = await backend.writer.ensure_generation(tenant, data.other)
    assert first == again
    assert first.state is GenerationState.BUILDING
    assert [g.model for g in await backend.reader.generations(tenant)] == [data.model, data.other]
    assert other.id != first.id
    with pytest.raises(StoreError):
        await backend.writer.ensure_generation(tenant, replace(data.model, dimension=9))


async def test_unknown_generations_are_refused(backend, data):
    tenant = await backend.tenant()
    for call in (
        backend.writer.activate(tenant, "0123456789ab"),
        backend.writer.drop_generation(tenant, "0123456789ab"),
        backend.writer.upsert(tenant, "0123456789ab", data.document("d"), []),
        backend.writer.delete(tenant, "0123456789ab", ["d"]),
        backend.writer.optimize(tenant, "0123456789ab"),
        backend.reader.counts(tenant, "0123456789ab"),
        backend.reader.documents(tenant, "0123456789ab"),
        backend.reader.hnsw(tenant, "0123456789ab"),
        backend.reader.counts(tenant, "no; such"),
    ):
        with pytest.raises(StoreError):
            await call


async def test_a_new_model_is_backfilled_beside_and_switched(backend, data):
    tenant = await backend.tenant()
    old = await data.fill(backend.writer, tenant, 6)
    new = await data.fill(backend.writer, tenant, 3, data.other, activate=False)
    reader, query = backend.reader, data.vector(3, data.other.dimension)
    assert (await reader.active_generation(tenant)).id == old
    assert len(await reader.search(tenant, "policy", data.vector(3), model_digest="sha256:aaaa"))
    with pytest.raises(ModelMismatchError):
        await reader.search(tenant, "policy", query, model_digest="sha256:bbbb")
    with pytest.raises(ModelMismatchError):
        await reader.search(tenant, "policy", query)
    await backend.writer.activate(tenant, new)
    found = await _ids(reader, tenant, "policy", query, model_digest="sha256:bbbb", limit=50)
    assert {key.split("#")[0] for key in found} == {"d00", "d01", "d02"}
    with pytest.raises(ModelMismatchError):
        await reader.search(tenant, "policy", data.vector(3), model_digest="sha256:aaaa")
    states = {g.id: g.state for g in await reader.generations(tenant)}
    assert states == {old: GenerationState.RETIRED, new: GenerationState.ACTIVE}
    await backend.writer.activate(tenant, old)
    assert len(await _ids(reader, tenant, "policy", data.vector(3), limit=50)) == 12


async def test_only_inactive_generations_are_dropped(backend, data):
    tenant = await backend.tenant()
    old = await data.fill(backend.writer, tenant, 3)
    new = await data.fill(backend.writer, tenant, 3, data.other)
    await backend.reader.search(tenant, "policy", data.vector(1, 12))
    with pytest.raises(StoreError):
        await backend.writer.drop_generation(tenant, new)
    await backend.writer.drop_generation(tenant, old)
    assert [g.id for g in await backend.reader.generations(tenant)] == [new]
    assert len(await backend.reader.search(tenant, "policy", data.vector(1, 12), mode=DENSE)) == 6


async def test_queries_during_switches_meet_one_model_only(backend, data):
    tenant = await backend.tenant()
    sizes = {data.model: 4, data.other: 7}
    generations = {m: await data.fill(backend.writer, tenant, n, m) for m, n in sizes.items()}
    switching = True
    outcomes = {"found": 0, "refused": 0}

    async def query(model):
        while switching:
            try:
                found = await backend.reader.search(
                    tenant,
                    "policy",
                    data.vector(1, model.dimension),
                    model_digest=model.digest,
                    mode=DENSE,
                    limit=100,
                )
            except ModelMismatchError:
                outcomes["refused"] += 1
            else:
                assert len(found) == 2 * sizes[model]
                outcomes["found"] += 1
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(query(model)) for model in sizes]
    for n in range(12):
        await backend.writer.activate(tenant, list(generations.values())[n % 2])
        await asyncio.sleep(0.01)
    switching = False
    await asyncio.gather(*tasks)
    assert min(outcomes.values()) > 0


async def test_scan_is_ordered_and_complete_for_any_batch(backend, data):
    tenant = await backend.tenant()
    generation = await data.fill(backend.writer, tenant, 7)
    pages = [page async for page in backend.reader.scan(tenant, generation, batch=3)]
    assert [len(page) for page in pages] == [3, 3, 1]
    ids = [document.doc_id for page in pages for document, _ in page]
    assert ids == [f"d{n:02}" for n in range(7)]
    assert all(len(chunks) == 2 for page in pages for _, chunks in page)


async def test_sync_state(backend, data):
    tenant = await backend.tenant()
    assert await backend.reader.sync_state(tenant) is None
    now = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    for state in (SyncState(now, None, 0, 0), SyncState(now, now, 7, 19)):
        await backend.writer.record_sync(tenant, state)
        assert await backend.reader.sync_state(tenant) == state


async def test_tenants_are_apart(backend, data):
    one, two = await backend.tenant(), await backend.tenant()
    await data.fill(backend.writer, one, 4)
    generation = await data.fill(backend.writer, two, 1)
    await backend.writer.upsert(
        two, generation, data.document("secret"), data.chunks("secret", "classified", seed=50)
    )
    query = data.vector(50_000)
    for mode in SearchMode:
        found = await _ids(backend.reader, one, "classified", query, mode=mode, limit=100)
        assert "secret#0" not in found
        assert "secret#0" in await _ids(backend.reader, two, "classified", query, mode=mode)
    assert "secret" not in await backend.reader.documents(one, generation)


async def test_the_index_has_the_seeds_parameters(backend, data):
    tenant = await backend.tenant()
    generation = await data.fill(backend.writer, tenant, 2)
    await backend.writer.optimize(tenant, generation)
    assert await backend.reader.hnsw(tenant, generation) == HnswParameters(32, 200, 128)


async def test_a_cancelled_upsert_leaves_the_old_document(backend, data):
    tenant = await backend.tenant()
    generation = await data.fill(backend.writer, tenant, 2)
    before = await _scanned(backend.reader, tenant, generation)
    texts = [f"replacement text {n}" for n in range(200)]
    for steps in range(12):
        task = asyncio.create_task(
            backend.writer.upsert(
                tenant, generation, data.document("d00", title="New"), data.chunks("d00", *texts)
            )
        )
        for _ in range(steps):
            await asyncio.sleep(0)
        finished = task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if finished:
            break
        documents = await backend.reader.documents(tenant, generation)
        hits = await backend.reader.search(tenant, "policy", None, mode=LEXICAL, limit=500)
        new = await backend.reader.search(tenant, "replacement", None, mode=LEXICAL, limit=500)
        if documents["d00"].title == "New":
            assert len(new) == 200
            break
        assert new == []
        assert len(hits) == 2
    else:
        after = await _scanned(backend.reader, tenant, generation)
        assert [d for d, _ in after] == [d for d, _ in before]
    await backend.writer.upsert(tenant, generation, data.document("d00"), data.two(0))
    assert await backend.reader.counts(tenant, generation) == Counts(2, 4)


async def test_two_writers_of_one_document_leave_one_whole_version(backend, data):
    tenant = await backend.tenant()
    generation = await data.fill(backend.writer, tenant, 2)

    async def write(n):
        document = data.document("d00", title=f"Title {n}")
        texts = [f"version{n} part{part}" for part in range(n + 1)]
        await backend.writer.upsert(tenant, generation, document, data.chunks("d00", *texts))

    await asyncio.gather(*(write(n) for n in range(8)))
    (document, chunks), _ = await _scanned(backend.reader, tenant, generation)
    winner = int(document.title.split()[1])
    assert [item.chunk.text for item in chunks] == [
        f"version{winner} part{part}" for part in range(winner + 1)
    ]
    found = await backend.reader.search(tenant, "part0", None, mode=LEXICAL, limit=50)
    assert [hit.chunk.text for hit in found] == [f"version{winner} part0"]


async def test_concurrent_writers_and_deleters(backend, data):
    tenant = await backend.tenant()
    generation = await data.fill(backend.writer, tenant, 10)
    ids = [f"d{n:02}" for n in range(10)]
    await asyncio.gather(
        *(
            backend.writer.upsert(tenant, generation, data.document(ids[n]), data.two(n))
            for n in range(10)
        ),
        backend.writer.delete(tenant, generation, ids[5:]),
        backend.writer.delete(tenant, generation, list(reversed(ids[3:]))),
    )
    documents = await backend.reader.documents(tenant, generation)
    scanned = await _scanned(backend.reader, tenant, generation)
    assert {d.doc_id: len(chunks) for d, chunks in scanned} == dict.fromkeys(documents, 2)
    expected = _expected_bm25(data, [int(key[1:]) for key in documents], "policy")
    await backend.writer.optimize(tenant, generation)
    hits = await backend.reader.search(tenant, "policy", None, mode=LEXICAL, limit=100)
    assert {hit.chunk.chunk_id: hit.score for hit in hits} == pytest.approx(expected, rel=1e-4)


async def test_a_store_that_is_down_says_so(backend, data):
    if backend.down is backend.reader:
        pytest.skip("an embedded engine is never down")
    for call in (
        backend.down.ping(),
        backend.down.search("acme", "x", data.vector(1)),
        backend.down.tenants(),
    ):
        with pytest.raises(StoreUnavailableError):
            await call
