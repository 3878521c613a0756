import asyncio
import base64

import numpy as np
import pytest
from tokenizers import Tokenizer

from rag_common.late_interaction import maxsim, unpack

EMBEDDINGS = "/v1/embeddings"


@pytest.fixture
async def client(onnx, serve):
    async with serve(onnx) as http:
        yield http


async def test_one_text_as_openai_answers_it(client, onnx):
    answer = (await client.post(EMBEDDINGS, json={"model": onnx.name, "input": "hello"})).json()
    assert answer["object"] == "list"
    assert answer["model"] == onnx.name
    assert answer["model_digest"] == onnx.digest
    assert answer["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    (item,) = answer["data"]
    assert (item["object"], item["index"], item["truncated"]) == ("embedding", 0, False)
    assert np.isclose(np.linalg.norm(item["embedding"]), 1, atol=1e-3)
    assert "late" not in item


async def test_base64_holds_the_same_floats(client):
    plain = (await client.post(EMBEDDINGS, json={"input": ["a", "b"]})).json()["data"]
    body = {"input": ["a", "b"], "encoding_format": "base64"}
    packed = (await client.post(EMBEDDINGS, json=body)).json()["data"]
    for one, two in zip(plain, packed, strict=True):
        found = np.frombuffer(base64.b64decode(two["embedding"]), "<f4")
        assert np.allclose(found, one["embedding"], atol=1e-6)


async def test_late_vectors_are_pooled_for_documents_only(client):
    text = " ".join(f"word{i}" for i in range(200))
    body = {"input": text, "outputs": ["late"]}
    (document,) = (await client.post(EMBEDDINGS, json=body)).json()["data"]
    (query,) = (await client.post(EMBEDDINGS, json=body | {"input_type": "query"})).json()["data"]
    packed = base64.b64decode(document["late"])
    assert len(packed) <= 6144
    assert document["truncated"]
    assert "embedding" not in document
    vectors = unpack(base64.b64decode(query["late"]))
    assert vectors.shape == (254, 384)
    assert maxsim(vectors, [packed])[0] > 0.7


async def test_token_ids_are_texts_too(client, onnx):
    ids = list(onnx.encode(["hello world"])[0].ids[1:-1])
    text, one, many = [
        (await client.post(EMBEDDINGS, json={"input": value})).json()["data"][0]["embedding"]
        for value in ("hello world", ids, [ids])
    ]
    assert np.allclose(text, one, atol=1e-5)
    assert np.allclose(text, many, atol=1e-5)


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"input": []}, 400, "at least one"),
        ({"input": ""}, 400, "item 0 is empty"),
        ({"input": ["a", ""]}, 400, "item 1 is empty"),
        ({"input": [[1], []]}, 400, "item 1 is empty"),
        ({"input": None}, 400, "expected a text"),
        ({"input": 3}, 400, "expected a text"),
        ({"input": ["a", 3]}, 400, "item 1 is a int"),
        ({"input": [1.5]}, 400, "neither a text nor"),
        ({"input": [["a"]]}, 400, "neither a text nor"),
        ({"input": [True]}, 400, "neither a text nor"),
        ({"input": [10**8]}, 400, "token id 100000000"),
        ({"input": ["a"] * 2049}, 400, "2049 inputs, at most 2048"),
        ({"input": "a", "outputs": ["sparse"]}, 400, "the model has dense, late"),
        ({"input": "a", "outputs": []}, 422, "outputs"),
        ({"input": "a", "outputs": ["x"]}, 422, "outputs"),
        ({"input": "a", "encoding_format": "hex"}, 422, "encoding_format"),
        ({"input": "a", "model": "other"}, 404, "'other' is not served"),
        ({}, 422, "input"),
    ],
)
async def test_mistakes_are_problems(client, body, status, says):
    answer = await client.post(EMBEDDINGS, json=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert says in answer.json()["detail"]


async def test_rerank_puts_the_answer_first(client):
    documents = ["Berlin is a city.", {"text": "Paris is the capital of France."}, "Cats sleep."]
    body = {"query": "capital of France", "documents": documents, "top_n": 2}
    answer = (await client.post("/v1/rerank", json=body | {"return_documents": True})).json()
    assert answer["results"][0]["index"] == 1
    assert len(answer["results"]) == 2
    assert answer["results"][0]["document"] == {"text": "Paris is the capital of France."}
    assert answer["results"][0]["relevance_score"] > answer["results"][1]["relevance_score"]
    assert answer["meta"]["model_digest"]


@pytest.mark.parametrize(
    "body", [{"query": "", "documents": ["a"]}, {"query": "a", "documents": []}, {"query": "a"}]
)
async def test_rerank_refuses_what_is_empty(client, body):
    assert (await client.post("/v1/rerank", json=body)).status_code == 422


async def test_blank_texts_rank_last(client):
    body = {"query": "cat", "documents": [" ", "a cat"]}
    results = (await client.post("/v1/rerank", json=body)).json()["results"]
    assert [(r["index"], r["relevance_score"] == -1) for r in results] == [(1, False), (0, True)]


async def test_rerank_needs_something_that_ranks(slow, serve):
    async with serve(slow()) as client:
        answer = await client.post("/v1/rerank", json={"query": "a", "documents": ["b"]})
        assert answer.status_code == 400


async def test_a_backends_own_reranker_is_used(slow, serve):
    backend = slow()
    backend.rerank = lambda query, documents: [0.1, 0.9]
    async with serve(backend) as client:
        answer = await client.post("/v1/rerank", json={"query": "a", "documents": ["b", "c"]})
        assert [r["index"] for r in answer.json()["results"]] == [1, 0]


async def test_the_model_and_its_tokenizer_are_described(client, onnx):
    (model,) = (await client.get("/v1/models")).json()["data"]
    assert model == {
        "id": onnx.name,
        "object": "model",
        "digest": onnx.digest,
        "dimension": 384,
        "max_tokens": 256,
        "outputs": ["dense", "late"],
    }
    tokenizer = Tokenizer.from_str((await client.get(f"/v1/models/{onnx.name}/tokenizer")).text)
    assert tokenizer.encode("hello").tokens == ["[CLS]", "hello", "[SEP]"]
    assert (await client.get("/v1/models/other/tokenizer")).status_code == 404


async def test_operations(client):
    assert (await client.get("/healthz")).status_code == 200
    assert (await client.get("/readyz")).status_code == 200
    before = (await client.get("/metrics")).text
    assert 'embedding_requests_total{status="200"} 0.0' in before
    await client.post(EMBEDDINGS, json={"input": ["hello", "you"]})
    await client.post(EMBEDDINGS, json={"input": []})
    after = (await client.get("/metrics")).text
    for line in (
        'embedding_requests_total{status="200"} 1.0',
        'embedding_requests_total{status="400"} 1.0',
        "embedding_inputs_total 2.0",
        "embedding_tokens_total 6.0",
        "embedding_queue_depth 0.0",
        "embedding_batch_inputs_count 1.0",
        "embedding_request_duration_seconds_count 2.0",
    ):
        assert line in after
    assert "embedding_compute_seconds_total" in after


async def test_a_full_queue_is_429_with_retry_after(slow, serve):
    async with serve(slow(0.2), max_queue=2) as client:
        first = asyncio.create_task(client.post(EMBEDDINGS, json={"input": ["a", "b" * 40, "c"]}))
        await asyncio.sleep(0.1)
        answer = await client.post(EMBEDDINGS, json={"input": ["d", "e", "f"]})
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert (await first).status_code == 200


async def test_a_failing_model_is_500_and_counted(slow, serve):
    async with serve(slow()) as client:
        answer = await client.post(EMBEDDINGS, json={"input": "boom"})
        assert answer.status_code == 500
        assert "out of memory" not in answer.text
        assert 'embedding_requests_total{status="500"} 1.0' in (await client.get("/metrics")).text
