"""An embedder of two numbers, a network over it, the guard as a service, and the real embedding service."""

import json
import os
import socket
import subprocess
import sys
import time
from hashlib import sha256

import httpx
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from fastapi.testclient import TestClient

from rag_guard.app import create_app
from rag_guard.classifier import Classifier
from rag_guard.embedding import EmbeddingError
from rag_guard.model import Model, Network
from rag_guard.settings import Settings

DIGEST = "d" * 64


class Words:
    """Sees whether a text speaks of defying; can be told to fail or to be another model."""

    def __init__(self):
        self.error, self.served, self.asked = None, DIGEST, []

    async def embed(self, texts, seconds):
        self.asked.append((list(texts), seconds))
        if self.error:
            raise EmbeddingError(self.error)
        return np.array([[float("defy" in t), 1] for t in texts], np.float32), self.served

    async def digest(self, seconds):
        if self.error:
            raise EmbeddingError(self.error)
        return self.served


@pytest.fixture
def embedder():
    return Words()


@pytest.fixture
def model():
    network = Network(np.array([[10.0], [0]]), np.zeros(1), np.array([1.0]), -5.0)
    return Model(network, 0.9, 0.95, DIGEST)


@pytest.fixture
def classifier(model, embedder):
    return Classifier(model, embedder)


@pytest.fixture
def settings(tmp_path):
    key = Ed25519PrivateKey.generate()
    (tmp_path / "signing.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    known = {sha256(b"k1").hexdigest(): {"tenant": "acme", "user": "ann"}}
    (tmp_path / "keys.json").write_text(json.dumps(known))
    return Settings(
        guard_api_keys_file=tmp_path / "keys.json",
        guard_signing_key_file=tmp_path / "signing.pem",
        guard_flag_log=tmp_path / "flags.jsonl",
        guard_embedding_url="http://127.0.0.1:1",
    )


@pytest.fixture
def service(settings, classifier, tmp_path):
    with TestClient(create_app(settings, classifier)) as client:
        client.folder = tmp_path
        yield client


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_until(ready, process, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            if ready():
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail(f"{process.args} did not become ready (exit code {process.poll()})")


@pytest.fixture(scope="session")
def embedding_url():
    url = f"http://127.0.0.1:{(port := free_port())}"
    environment = os.environ | {"BIND": f"127.0.0.1:{port}", "EMBEDDING_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "rag_embedding"], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: httpx.get(f"{url}/readyz").is_success, process)
        yield url
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def guard_program(settings, tmp_path):
    """Starts `python -m rag_guard` with some settings; all are stopped afterwards."""
    url, running = f"unix:{tmp_path / 'guard.sock'}", []

    def start(**changes):
        names = ("guard_api_keys_file", "guard_signing_key_file", "guard_flag_log")
        given = {name.upper(): str(getattr(settings, name)) for name in names}
        environment = os.environ | given | {"BIND": url} | changes
        command = [sys.executable, "-m", "rag_guard"]
        running.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE))
        return running[-1]

    transport = httpx.HTTPTransport(uds=url.removeprefix("unix:"))
    with httpx.Client(transport=transport, base_url="http://guard", timeout=10) as client:
        start.client, start.wait = client, wait_until
        yield start
    for process in running:
        process.terminate()
        process.communicate(timeout=30)
