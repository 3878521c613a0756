"""A busy, a changed, a wrong and an absent embedding service."""

import math
import time

import pytest
from fastapi import Response
from fastapi.responses import JSONResponse

from rag_ingestion.embedder import Embedder
from rag_ingestion.errors import EmbeddingError


@pytest.fixture
async def client(embedder):
    async with Embedder(embedder.url, retry_seconds=5) as client:
        yield client


async def embed(client: Embedder, texts: list[str]):
    return await client.embed(await client.card(), texts)


async def test_vectors_come_in_order(client):
    one, two = await embed(client, ["one", "two"])
    [again] = await embed(client, ["two"])
    assert (two.dense == again.dense).all()
    assert two.late == again.late
    assert not (one.dense == two.dense).all()
    assert math.isclose(float(one.dense @ one.dense), 1, abs_tol=1e-5)


async def test_a_model_without_late_vectors(client, embedder):
    embedder.outputs = ["dense", "sparse"]
    assert (await embed(client, ["x"]))[0].late is None


async def test_waits_as_long_as_it_is_told(client, embedder):
    embedder.faults.append(Response(status_code=429, headers={"retry-after": "1"}))
    embedder.faults.append(Response(status_code=503, headers={"retry-after": "Tue, 1 Jan 2030"}))
    start = time.monotonic()
    assert len(await embed(client, ["x"])) == 1
    assert time.monotonic() - start >= 1
    assert not embedder.faults


async def test_gives_up_in_time(embedder):
    embedder.faults.extend(Response(status_code=503) for _ in range(50))
    async with Embedder(embedder.url, retry_seconds=0.5) as client:
        with pytest.raises(EmbeddingError, match=r"HTTP 503.*gave up after 0.5 s"):
            await embed(client, ["x"])


async def test_a_refusal_is_final(client, embedder):
    embedder.faults.append(JSONResponse({"title": "No", "detail": "too long"}, status_code=400))
    with pytest.raises(EmbeddingError, match="too long"):
        await embed(client, ["x"])
    assert len(embedder.texts) == 0


def shorten(answer):
    for item in answer["data"]:
        item["embedding"] = "AAAAAA=="


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (lambda answer: answer["data"].pop(), "http.*: 1 embeddings of 2 texts"),
        (lambda answer: answer.pop("data"), "http.*: not embeddings"),
        (lambda answer: answer.update(model_digest="other"), "changed its model"),
        (shorten, "not vectors of 8"),
    ],
)
async def test_wrong_answers(client, embedder, tamper, message):
    embedder.tamper = tamper
    with pytest.raises(EmbeddingError, match=message):
        await embed(client, ["x", "y"])


async def test_a_model_that_is_not_served(embedder):
    async with Embedder(embedder.url, retry_seconds=0, model="bge-m3") as client:
        with pytest.raises(EmbeddingError, match=r"does not serve 'bge-m3'.*fake"):
            await client.card()


async def test_nobody_there():
    async with Embedder("http://127.0.0.1:9", retry_seconds=0) as client:
        with pytest.raises(EmbeddingError, match="ConnectError"):
            await client.card()
