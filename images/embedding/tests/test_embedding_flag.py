"""The FlagEmbedding backend's own logic, with the library replaced by a stand-in."""

import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from rag_assets import fetch
from rag_embedding.backend import BackendError
from rag_embedding.flag_backend import FlagBackend


class Model:
    def __init__(self, path, **options):
        self.path, self.options = path, options

    def encode(self, texts, *, return_sparse=None, return_colbert_vecs=None, **options):
        self.asked = options
        dense = np.eye(384, dtype=np.float16)[: len(texts)]
        if return_sparse is None:
            return dense
        return {
            "dense_vecs": dense,
            "lexical_weights": [{"7": np.float16(0.5)}] * len(texts) if return_sparse else None,
            "colbert_vecs": [np.ones((4, 384))] * len(texts) if return_colbert_vecs else None,
        }

    def compute_score(self, pairs, normalize):
        return [0.9 if query in document else 0.1 for query, document in pairs]


@pytest.fixture
def library(monkeypatch):
    module = ModuleType("FlagEmbedding")
    module.BGEM3FlagModel = module.FlagModel = module.FlagReranker = Model
    monkeypatch.setitem(sys.modules, "FlagEmbedding", module)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(set_num_threads=lambda n: None))


@pytest.fixture
def folder(tmp_path):
    source = fetch("all-minilm-l6-v2")
    for name in ("config.json", "tokenizer.json", "sentence_bert_config.json"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    return tmp_path


def make_m3(folder):
    for head in ("sparse_linear.pt", "colbert_linear.pt"):
        (folder / head).write_bytes(b"head")


def test_a_plain_encoder_has_dense_vectors(library, folder):
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    backend = FlagBackend(str(folder), "fp16")
    assert backend.outputs == {"dense"}
    assert backend._model.options == {"use_fp16": True, "pooling_method": "mean"}
    vectors = backend.embed(backend.encode(["a", "b"]), frozenset({"dense"}))
    assert vectors[1].dense.tolist() == np.eye(384)[1].tolist()
    assert backend._model.asked == {"batch_size": 2, "max_length": 256}
    assert backend.rerank("q", ["d"]) is None


def test_bge_m3_has_sparse_and_late_vectors(library, folder):
    make_m3(folder)
    backend = FlagBackend(str(folder), "fp32")
    assert backend.outputs == {"dense", "sparse", "late"}
    (vectors,) = backend.embed(backend.encode(["a"]), backend.outputs)
    assert (vectors.sparse.indices, vectors.sparse.values) == ([7], [0.5])
    assert vectors.tokens.shape == (3, 384)
    (plain,) = backend.embed(backend.encode(["a"]), frozenset({"dense"}))
    assert plain.sparse is None
    assert plain.tokens is None


def test_the_reranker_scores_pairs(library, folder):
    backend = FlagBackend(str(folder), "fp16", reranker=str(folder))
    assert backend.rerank("cat", ["a cat", "a dog"]) == [0.9, 0.1]


def test_the_digest_follows_files_and_precision(library, folder):
    first = FlagBackend(str(folder), "fp16").digest
    assert FlagBackend(str(folder), "fp32").digest != first
    make_m3(folder)
    assert FlagBackend(str(folder), "fp16").digest != first


def test_a_model_must_be_a_folder_or_pinned(library):
    with pytest.raises(BackendError, match="40 hex revision"):
        FlagBackend("BAAI/bge-m3", "fp16")


def test_a_hub_that_cannot_be_reached_is_named(library, monkeypatch):
    def lost(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr("huggingface_hub.snapshot_download", lost)
    with pytest.raises(BackendError, match="cannot be had: no route"):
        FlagBackend("BAAI/bge-m3@" + "a" * 40, "fp16")
