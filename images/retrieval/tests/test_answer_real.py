"""The real 0.5B model and the real embedder, for a handful of questions."""

import os
import subprocess
import sys
import time

import httpx
import numpy as np
import pytest

from rag_retrieval.answer import Answerer, LLMClient, LLMSettings
from rag_retrieval.types import Outcome, Passage, QueryVectors, Retrieval
from rag_store.base import Chunk, Hit

pytestmark = pytest.mark.network
MODEL = "qwen2.5-0.5b-instruct"
TEXTS = (
    "The Model 7 pump ships with a parts warranty of 36 months. Its motor draws 450 watts.",
    "Branch offices open at 9:00 on weekdays and are closed on Sundays.",
    "The canteen serves lunch from 12:00 to 14:00. Vegetarian meals cost 6 euros.",
)
QUESTIONS = (
    ("How much power does the motor of the Model 7 pump draw?", "450", "d0.md#0"),
    ("When do branch offices open on weekdays?", "9:00", "d1.md#0"),
    ("What do vegetarian meals cost in the canteen?", "6", "d2.md#0"),
)


@pytest.fixture(scope="module")
def llm_url(tmp_path_factory):
    socket = tmp_path_factory.mktemp("llm") / "llm.sock"
    environment = os.environ | {"BIND": f"unix:{socket}", "LLM_MODEL": MODEL}
    process = subprocess.Popen([sys.executable, "-m", "rag_llm"], env=environment)
    try:
        transport = httpx.HTTPTransport(uds=str(socket))
        with httpx.Client(base_url="http://llm", transport=transport) as client:
            deadline = time.monotonic() + 240
            while not ready(client):
                assert process.poll() is None, "the server ended while it started"
                assert time.monotonic() < deadline, "the server did not become ready"
                time.sleep(0.2)
        yield f"unix:{socket}"
    finally:
        process.terminate()
        process.wait()


def ready(client):
    try:
        return client.get("/readyz").is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def embed():
    backends = pytest.importorskip("rag_embedding.onnx_backend")
    backend = backends.OnnxBackend("all-minilm-l6-v2", "int8", 2)

    async def call(texts):
        found = backend.embed(backend.encode(texts), frozenset({"dense"}))
        return np.array([vectors.dense for vectors in found])

    return call


async def retrieval(question, embed):
    dense = (await embed([question]))[0]
    rows = sorted(enumerate(await embed(TEXTS)), key=lambda item: -float(item[1] @ dense))
    passages = [
        Passage(
            Hit(
                chunk=Chunk(f"d{n}.md#0", f"d{n}.md", 0, TEXTS[n], (), 0, len(TEXTS[n]), 9),
                document_uri="u",
                document_title="",
                score=0.03,
                dense_score=float(row @ dense),
                dense_rank=rank,
            ),
            float(row @ dense),
        )
        for rank, (n, row) in enumerate(rows, 1)
    ]
    return Retrieval(question, QueryVectors(dense, None, "m", "d"), passages, 5, False, {})


async def test_real_answers_are_verified_and_cited(llm_url, embed):
    client = LLMClient(LLMSettings(llm_url, MODEL))
    subject = Answerer(client, embed, answerable_from=0.0)
    right = 0
    for question, fact, chunk in QUESTIONS:
        found = await retrieval(question, embed)
        items = [i async for i in subject.answer(question, found, deadline_seconds=120)]
        outcome = items[-1]
        assert isinstance(outcome, Outcome)
        assert outcome.decline_reason != "malformed_output"
        assert all(s.citations and s.support > 0 for s in outcome.sentences)
        cited = {c for s in outcome.sentences for c in s.citations}
        right += any(fact in s.text for s in outcome.sentences) and cited == {chunk}
    await client.close()
    assert right >= 2, "a 0.5B model answers two of three plain questions with the right citation"
