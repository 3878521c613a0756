"""`POST /v1/retrieve` over real sockets."""

import threading

import pytest

from rag_common.tenancy import HEADER
from rag_store.base import SearchMode

LEAVE = "leave.md#0"


def test_the_best_passage_comes_first_with_everything_the_contract_names(service):
    answer = service.retrieve()
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {
        "request_id", "tenant", "results", "relevance", "model", "cache_hit", "timings_ms",
    }  # fmt: skip
    first = body["results"][0]
    assert set(first) == {
        "chunk_id", "doc_id", "uri", "title", "heading_path", "start", "end", "text", "score",
        "dense_score", "dense_rank", "lexical_score", "lexical_rank",
    }  # fmt: skip
    assert first["chunk_id"] == LEAVE
    assert first["heading_path"] == ["Handbook"]
    assert len(body["results"]) == 5
    assert body["tenant"] == "acme"
    assert body["model"] == {"name": "toy", "digest": "d" * 64}
    assert 0 <= body["relevance"] <= 1
    assert body["cache_hit"] is False
    assert set(body["timings_ms"]) == {"embed", "search", "rerank", "total"}
    assert answer.headers["x-request-id"] == body["request_id"]


def test_scores_fall_and_top_n_is_kept(service):
    results = service.retrieve(top_n=3).json()["results"]
    scores = [result["score"] for result in results]
    assert scores == sorted(scores, reverse=True)
    assert len(results) == 3


def test_search_flags_reach_the_store(service, store):
    service.retrieve(mode="lexical", exact=True, top_n=100)
    tenant, _, mode, limit, exact, with_late = store.searches[-1]
    assert (tenant, mode, limit, exact, with_late) == ("acme", SearchMode.LEXICAL, 100, True, True)


def test_without_rerank_the_fused_order_and_scores_stand(service):
    results = service.retrieve(rerank=False).json()["results"]
    assert [r["score"] for r in results] == [r["dense_score"] for r in results]
    assert [r["dense_rank"] for r in results] == [1, 2, 3, 4, 5]


def test_a_tenant_sees_its_own_index_only(service):
    results = service.retrieve(tenant="beta").json()["results"]
    assert [result["doc_id"] for result in results] == ["x.md"]


@pytest.mark.parametrize("value", [None, "", "not.a.token"])
def test_without_a_valid_token_nobody_gets_in(service, value):
    headers = {} if value is None else {HEADER: value}
    answer = service.client.post("/v1/retrieve", json={"query": "x"}, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert service.records() == []


def test_an_unreadable_key_is_a_503_and_says_nothing_about_the_file(start, store, tmp_path):
    service = start(store, tenant_token_public_key_file=tmp_path / "gone.pem")
    answer = service.retrieve()
    assert answer.status_code == 503
    assert "gone.pem" not in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"x-tenant": "beta"},
        {"x-tenant": "acme"},
        {"x-tenant-id": "beta"},
        {"x-rag-tenant": "beta"},
        {"x-rag-tenant": "acme"},
        {"x-rag-jwt-tenant": "beta"},
        {"x-rag-user": "somebody-else"},
        {"x-rag-user": "ann"},
    ],
)
def test_a_tenant_or_user_from_another_header_is_refused(service, headers):
    answer = service.post("/v1/retrieve", {"query": "x"}, headers=headers)
    assert answer.status_code == 400


def test_two_tokens_are_ambiguous(service):
    headers = [(HEADER, service.token("acme")), (HEADER, service.token("beta"))]
    answer = service.client.post("/v1/retrieve", json={"query": "x"}, headers=headers)
    assert answer.status_code == 400


def test_a_tenant_in_the_query_string_is_refused(service):
    assert service.post("/v1/retrieve?tenant=beta", {"query": "x"}).status_code == 400


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"query": "x", "tenant": "beta"}, 400),
        ({"query": "x", "filter": {}}, 400),
        ({}, 422),
        ({"query": "  "}, 422),
        ({"query": "a\u0000b"}, 422),
        ({"query": "x" * 9000}, 422),
        ({"query": 7}, 422),
        ({"query": "x", "top_n": 0}, 422),
        ({"query": "x", "top_n": 101}, 422),
        ({"query": "x", "mode": "magic"}, 422),
        (["x"], 422),
    ],
)
def test_a_malformed_body_is_refused_with_the_reason(service, body, status):
    answer = service.post("/v1/retrieve", body)
    assert answer.status_code == status
    assert answer.json()["detail"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"query": "\\ud800"}', b"\xff\xfe"])
def test_a_body_that_is_not_json_is_a_400(service, content):
    headers = {HEADER: service.token("acme")}
    answer = service.client.post("/v1/retrieve", content=content, headers=headers)
    assert answer.status_code == 400


def test_a_huge_body_is_a_413(service):
    assert service.post("/v1/retrieve", {"query": "x" * 70_000}).status_code == 413


def test_an_unknown_tenant_is_a_404_and_recorded(service):
    answer = service.retrieve(tenant="nobody")
    assert answer.status_code == 404
    assert service.records("completion")[0]["status"] == "failed"


def test_a_tenant_without_an_index_is_a_409(service):
    answer = service.retrieve(tenant="fresh")
    assert answer.status_code == 409
    assert "ingestion" in answer.json()["detail"]


def test_an_empty_index_gives_an_empty_list_of_relevance_zero(service, store):
    store.rows["acme"] = {}
    body = service.retrieve().json()
    assert (body["results"], body["relevance"]) == ([], 0.0)


def test_a_dead_store_is_a_503_with_retry_after(service, store):
    store.down = True
    answer = service.retrieve()
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["title"] == "store unavailable"


def test_a_store_that_stumbles_once_is_asked_again(service, store):
    store.failures_left = 1
    assert service.retrieve().status_code == 200
    assert service.metric("rag_retries_total", service="store") == 1


def test_retries_end_with_their_budget(service, store):
    store.down = True
    for _ in range(12):
        assert service.retrieve().status_code == 503
    assert service.metric("rag_retries_total", service="store") <= 12


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_failing_embedder_is_a_503(service, peers, status):
    peers.embedder.status = status
    answer = service.retrieve()
    assert answer.status_code == 503
    assert answer.json()["title"] == "embedder unavailable"
    assert "told to fail" in answer.json()["detail"]


def test_a_dead_embedder_is_a_503(start, store, run):
    answer = start(store, embedding_url=f"unix:{run}/nobody").retrieve()
    assert answer.status_code == 503


@pytest.mark.parametrize("fault", ["refuses", "talks nonsense"])
def test_an_embedder_that_answers_wrongly_is_a_502(service, peers, fault):
    peers.embedder.broken = fault == "talks nonsense"
    peers.embedder.status = 400 if fault == "refuses" else 200
    assert service.retrieve().status_code == 502


def test_too_slow_is_a_504_that_says_what_was_slow(start, store):
    store.delay = 5
    service = start(store, deadline_retrieve_seconds=0.3)
    answer = service.retrieve()
    assert answer.status_code == 504
    assert answer.json()["stage"] == "store"
    assert answer.json()["timings_ms"]["search"] > 100


def test_a_slow_embedder_is_a_504(start, store, peers):
    peers.embedder.delay = 3
    answer = start(store, deadline_retrieve_seconds=0.3).retrieve()
    assert (answer.status_code, answer.json()["stage"]) == (504, "embedder")


def test_a_model_swap_is_waited_for(service, store, peers):
    service.retrieve()
    peers.embedder.digest = "e" * 64

    def switch():
        store.model = type(store.model)("toy", "e" * 64, store.model.dimension)

    timer = threading.Timer(0.3, switch)
    timer.start()
    assert service.retrieve("another question").json()["model"]["digest"] == "e" * 64
    timer.join()


def test_an_index_switched_under_the_service_is_noticed(service, store, peers):
    service.retrieve()
    store.model = type(store.model)("toy", "f" * 64, store.model.dimension)
    peers.embedder.digest = "f" * 64
    assert service.retrieve().json()["model"]["digest"] == "f" * 64


def test_an_embedder_of_another_name_is_a_mismatch_not_an_error(start, store, peers):
    peers.embedder.status = 404
    answer = start(store, deadline_retrieve_seconds=3).retrieve()
    assert (answer.status_code, answer.json()["title"]) == (503, "embedder unavailable")


def test_a_model_that_never_fits_is_a_503(start, store, peers):
    peers.embedder.digest = "e" * 64
    answer = start(store, deadline_retrieve_seconds=0.5).retrieve()
    assert answer.status_code == 503
    assert "the index needs" in answer.json()["detail"]


def test_an_unexpected_error_is_a_500_without_its_text(service, store):
    store.search = None
    answer = service.retrieve()
    assert answer.status_code == 500
    assert service.records("completion")[0]["status"] == "failed"


def test_openapi_describes_the_bodies(service):
    paths = service.client.get("/openapi.json").json()["paths"]
    body = paths["/v1/retrieve"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["additionalProperties"] is False
