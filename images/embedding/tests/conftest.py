import asyncio
import time

import httpx
import numpy as np
import pytest

from rag_embedding.app import create_app
from rag_embedding.backend import Encoded, InvalidTokensError, Vectors
from rag_embedding.onnx_backend import OnnxBackend
from rag_embedding.settings import Settings


class SlowBackend:
    """Records its batches; a pass takes `seconds` and the vector holds the text's length."""

    name, digest, dimension, max_tokens = "slow", "d", 8, 256
    outputs = frozenset({"dense"})

    def __init__(self, seconds=0.0):
        self.seconds, self.batches = seconds, []

    def encode(self, texts):
        return [Encoded(tuple(range(len(text))), text) for text in texts]

    def wrap(self, ids):
        raise InvalidTokensError("no ids")

    def tokenizer_json(self):
        return "{}"

    def embed(self, batch, outputs):
        self.batches.append([len(item.ids) for item in batch])
        time.sleep(self.seconds)
        if any(item.text == "boom" for item in batch):
            raise RuntimeError("out of memory")
        return [Vectors(np.full(8, len(item.ids), np.float32)) for item in batch]

    def rerank(self, query, documents):
        return None


@pytest.fixture
def slow():
    return SlowBackend


@pytest.fixture(scope="session")
def onnx():
    return OnnxBackend("all-minilm-l6-v2", "int8", 2)


@pytest.fixture
def serve():
    """A function that gives a client of an app around a backend."""
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def client(backend, **settings):
        app = create_app(backend, Settings().model_copy(update=settings))
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://e") as http:
                yield http
            await asyncio.sleep(0)

    return client
