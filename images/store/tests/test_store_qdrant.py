"""Qdrant beyond the contract: the version protocol, real HTTP errors, and the real engine."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
import qdrant_edge as q
from qdrant_client import AsyncQdrantClient

from rag_store import open_admin, open_store
from rag_store.base import (
    Counts,
    SearchMode,
    StoreError,
    StoreUnavailableError,
    UnknownTenantError,
)
from rag_store.bm25 import document_vector, query_terms, query_vector
from rag_store.qdrant import QdrantAdmin, QdrantStore
from rag_store.qdrant.client import Names
from rag_store.qdrant.documents import QdrantDocuments
from rag_store.qdrant.points import document_point_id

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact"),
]


@pytest.fixture
async def local():
    client = AsyncQdrantClient(":memory:")
    await QdrantAdmin(client).provision("acme")
    yield client, QdrantStore(client)
    await client.close()


class Dying:
    """A client that fails at the n-th call of one operation on a collection."""

    def __init__(self, client, operation, collection):
        self._client, self._operation, self._collection = client, operation, collection

    def __getattr__(self, name):
        real = getattr(self._client, name)

        async def call(collection, *args, **kwargs):
            if (name, collection) == (self._operation, self._collection):
                raise ConnectionError("died")
            return await real(collection, *args, **kwargs)

        return call


@pytest.mark.parametrize("died_at", ["upsert chunks", "upsert documents", "delete chunks"])
async def test_a_writer_that_dies_leaves_old_or_new(local, data, died_at, monkeypatch):
    client, store = local
    key = await data.fill(store, "acme", 3)
    names = Names("acme")
    operation, what = died_at.split()
    dying = Dying(client, operation, getattr(names, what)(key))
    with pytest.raises(ConnectionError):
        await QdrantDocuments(dying, names, key).replace(
            data.document("d01", title="New"), data.chunks("d01", "fresh one", "fresh two", "x")
        )
    old = died_at != "delete chunks"
    hits = await store.search("acme", "appendix fresh", None, mode=SearchMode.LEXICAL, limit=50)
    mine = [hit.chunk.text for hit in hits if hit.chunk.doc_id == "d01"]
    assert mine == (["appendix number1 approval"] if old else ["fresh one", "fresh two"])
    assert await store.counts("acme", key) == Counts(3, 6 if old else 7)
    monkeypatch.setattr("rag_store.qdrant.documents.ORPHAN_SECONDS", -5)
    await store.optimize("acme", key)
    assert (await client.count(names.chunks(key))).count == (6 if old else 7)
    await store.upsert("acme", key, data.document("d01"), data.two(1))
    assert (await client.count(names.chunks(key))).count == 6


async def test_abandoned_chunks_do_not_crowd_out_a_result(local, data):
    client, store = local
    key = await data.fill(store, "acme", 12)
    orphans = QdrantDocuments(client, Names("acme"), key)
    query = data.vector(3000)
    before = await store.search("acme", "", query, mode=SearchMode.DENSE, limit=4)
    for n in (3, 4, 5):
        dying = Dying(client, "upsert", Names("acme").documents(key))
        with pytest.raises(ConnectionError):
            await QdrantDocuments(dying, Names("acme"), key).replace(
                data.document(f"d0{n}"), data.two(n)
            )
    assert orphans
    after = await store.search("acme", "", query, mode=SearchMode.DENSE, limit=4)
    assert [hit.chunk.chunk_id for hit in after] == [hit.chunk.chunk_id for hit in before]


async def test_a_document_that_vanishes_meanwhile_is_not_a_hit(local, data):
    client, store = local
    key = await data.fill(store, "acme", 4)
    await client.delete(Names("acme").documents(key), [document_point_id("d02")])
    hits = await store.search("acme", "policy", data.vector(1), limit=50)
    assert {hit.chunk.doc_id for hit in hits} == {"d00", "d01", "d03"}


class _Answers(BaseHTTPRequestHandler):
    status, seen = 200, []

    def do_GET(self):
        type(self).seen.append(self.headers.get("authorization"))
        body = json.dumps({"result": {"collections": []}, "status": "ok", "time": 0}).encode()
        self.send_response(self.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_GET

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    _Answers.status, _Answers.seen = 200, []
    with HTTPServer(("127.0.0.1", 0), _Answers) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield httpd.server_address[1]
        httpd.shutdown()


async def test_the_key_is_read_for_every_request(server, credentials):
    store = open_store(f"qdrant://127.0.0.1:{server}", credentials)
    await store.ping()
    credentials.write_text(json.dumps({"username": "x", "password": "rotated"}))
    assert await store.tenants() == []
    assert _Answers.seen == ["Bearer key", "Bearer rotated"]
    credentials.unlink()
    with pytest.raises(StoreUnavailableError, match="No such file"):
        await store.ping()
    await store.close()


@pytest.mark.parametrize(
    ("status", "error"),
    [(500, StoreUnavailableError), (429, StoreUnavailableError), (403, StoreError)],
)
async def test_http_errors_are_the_stores(server, credentials, status, error):
    _Answers.status = status
    url = f"qdrant://127.0.0.1:{server}"
    store, admin = open_store(url, credentials), open_admin(url, credentials)
    for call in (store.ping(), store.tenants(), store.generations("acme"), admin.provision("acme")):
        with pytest.raises(error) as caught:
            await call
        assert not isinstance(caught.value, UnknownTenantError)
    await store.close()
    await admin.close()


async def test_a_missing_registry_is_an_unknown_tenant(server, credentials):
    _Answers.status = 404
    store = open_store(f"qdrant://127.0.0.1:{server}", credentials)
    with pytest.raises(UnknownTenantError):
        await store.generations("acme")
    with pytest.raises(UnknownTenantError):
        await store.sync_state("acme")
    await store.close()


def _shard(folder, dimension=32):
    index = q.HnswIndexConfig(32, 200, 100)
    dense = q.EdgeVectorParams(dimension, q.Distance.Cosine, hnsw_config=index)
    sparse = q.EdgeSparseVectorParams(modifier=q.Modifier.Idf)
    config = q.EdgeConfig(
        vectors={"dense": dense},
        sparse_vectors={"bm25": sparse},
        optimizers=q.EdgeOptimizersConfig(default_segment_number=1, indexing_threshold=100),
    )
    return q.EdgeShard.create(str(folder), config)


def test_the_real_engines_index_finds_what_an_exact_scan_finds(tmp_path):
    draw = np.random.default_rng(3)
    centres = draw.normal(size=(40, 32))
    vectors = (centres[draw.integers(40, size=4000)] + 0.5 * draw.normal(size=(4000, 32))).astype(
        "f4"
    )
    shard = _shard(tmp_path / "shard")
    points = [q.Point(n, {"dense": v.tolist()}, {}) for n, v in enumerate(vectors)]
    shard.update(q.UpdateOperation.upsert_points(points))
    assert shard.optimize()
    assert shard.info().indexed_vectors_count >= 4000

    def search(vector, params):
        query = q.Query.Nearest(vector.tolist(), using="dense")
        return {p.id for p in shard.query(q.QueryRequest(limit=10, query=query, params=params))}

    queries = vectors[::100] + 0.1 * draw.normal(size=(40, 32)).astype("f4")
    recalls = [
        len(search(v, q.SearchParams(hnsw_ef=128)) & search(v, q.SearchParams(exact=True))) / 10
        for v in queries
    ]
    shard.close()
    assert np.mean(recalls) >= 0.985


def test_the_real_engines_idf_is_our_bm25(tmp_path, data):
    texts = [item.chunk.text for n in range(12) for item in data.two(n)]
    vectors = [document_vector(text) for text in texts]
    shard = _shard(tmp_path / "shard")
    points = [
        q.Point(n, {"bm25": q.SparseVector(list(v), list(v.values()))}, {})
        for n, v in enumerate(vectors)
    ]
    shard.update(q.UpdateOperation.upsert_points(points))
    terms = query_terms("security policy number3")
    weights = query_vector(
        "security policy number3", len(texts), {t: sum(t in v for v in vectors) for t in terms}
    )
    expected = {
        n: score
        for n, v in enumerate(vectors)
        if (score := sum(w * v.get(t, 0) for t, w in weights.items())) > 0
    }
    query = q.Query.Nearest(q.SparseVector(terms, [1.0] * len(terms)), using="bm25")
    found = {p.id: p.score for p in shard.query(q.QueryRequest(limit=100, query=query))}
    shard.close()
    assert found == pytest.approx(expected, rel=1e-4)
