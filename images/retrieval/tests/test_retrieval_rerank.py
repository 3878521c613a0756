"""The three rerankers, and what happens when one is down."""

import asyncio
import dataclasses

import numpy as np
import pytest

from rag_retrieval.deadline import Deadline
from rag_retrieval.rerank import LateReranker
from rag_retrieval.rerank.base import by_score
from rag_retrieval.types import QueryVectors
from rag_store.base import Chunk, Hit


def hit(name, score=0.5):
    return Hit(Chunk(name, name, 0, name, (), 0, 1, 1), "uri", "title", score)


def ids(passages):
    return [passage.hit.chunk.chunk_id for passage in passages]


def results(answer):
    return [result["chunk_id"] for result in answer.json()["results"]]


def test_late_interaction_scores_are_maxsim(service):
    found = service.retrieve(query="VPN client").json()["results"]
    assert found[0]["chunk_id"] == "vpn.md#0"
    assert found[0]["score"] == pytest.approx(1.0, abs=0.01)  # both words are in the passage


def test_a_hit_without_token_vectors_stays_behind_its_neighbour(service, store):
    fused = results(service.retrieve(rerank=False, top_n=6))
    store.without_late = {fused[0].removesuffix("#0")}
    assert results(service.retrieve(top_n=6))[0] == fused[0]
    store.without_late = {name.removesuffix("#0") for name in fused}
    assert results(service.retrieve(top_n=6)) == fused


def test_damaged_token_vectors_leave_the_fused_order(service, store, monkeypatch):
    fused = results(service.retrieve(rerank=False))
    real = store._hit
    monkeypatch.setattr(store, "_hit", lambda *a: dataclasses.replace(real(*a), late=b"damaged"))
    assert results(service.retrieve()) == fused


def test_a_query_without_token_vectors_keeps_the_fused_order():
    vectors = QueryVectors(np.ones(2, np.float32), None, "m", "d")
    hits = [hit("a"), hit("b")]
    ranked = asyncio.run(LateReranker().rerank("q", vectors, hits, Deadline.after(1)))
    assert ids(ranked) == ["a", "b"]


def test_scores_order_and_missing_ones_follow_the_fused_order():
    hits = [hit("a"), hit("b"), hit("c"), hit("d")]
    assert ids(by_score(hits, [0.1, None, 0.9, 0.5])) == ["c", "d", "a", "b"]
    assert ids(by_score(hits, [None, 0.2, 0.9, None])) == ["a", "c", "d", "b"]
    assert [p.score for p in by_score(hits, [None] * 4)] == [0.5] * 4
    assert by_score([], []) == []


def test_an_http_reranker_decides_the_order(start, store, peers, tmp_path):
    key = tmp_path / "key"
    key.write_text("k-1\n")
    service = start(store, rerank_backend="http", rerank_model="bge", rerank_api_key_file=key)
    fused = results(service.retrieve(rerank=False, top_n=6))
    assert results(service.retrieve(top_n=6)) == fused[::-1]
    call = peers.reranker.calls[0]
    assert call["model"] == "bge"
    assert call["documents"][0].split("\n")[:2] == ["Leave", "Handbook"]
    assert peers.reranker.headers[0]["authorization"] == "Bearer k-1"
    key.write_text("k-2\n")
    service.retrieve()
    assert peers.reranker.headers[-1]["authorization"] == "Bearer k-2"


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 403},
        {"results": []},
        {"results": [{"index": 99, "relevance_score": 1}]},
        {"results": [{"index": 0, "relevance_score": "NaN"}]},
        {"results": [{"index": 0}]},
        {"results": "nonsense"},
        {"delay": 2},
    ],
)
def test_a_failing_reranker_leaves_the_fused_order_and_is_counted(start, store, peers, fault):
    vars(peers.reranker).update(fault)
    service = start(store, rerank_backend="http", deadline_retrieve_seconds=1.5)
    fused = results(service.retrieve(rerank=False))
    assert results(service.retrieve()) == fused
    assert service.metric("rag_rerank_fallbacks_total") == 1


def test_a_strict_reranker_that_is_down_is_a_503(start, store, run):
    service = start(
        store, rerank_backend="http", rerank_url=f"unix:{run}/nobody", rerank_strict=True
    )
    assert service.retrieve().status_code == 503


def test_a_partial_ranking_keeps_the_rest(start, store, peers):
    peers.reranker.results = [{"index": 2, "relevance_score": 0.9}]
    service = start(store, rerank_backend="http")
    assert len(results(service.retrieve(top_n=6))) == 6


def test_an_empty_index_asks_no_reranker(start, store, peers):
    store.rows["acme"] = {}
    assert results(start(store, rerank_backend="http").retrieve()) == []
    assert peers.reranker.calls == []


def test_no_reranker_and_no_token_vectors(start, store, peers):
    service = start(store, rerank_backend="none")
    found = service.retrieve().json()["results"]
    assert [r["score"] for r in found] == [r["dense_score"] for r in found]
    assert store.searches[-1][-1] is False
    assert peers.embedder.calls[0]["outputs"] == ["dense"]
