"""The ONNX graph against the same encoder in plain NumPy, on a tiny random model."""

import json
import math

import numpy as np
import onnxruntime as ort
import pytest
from safetensors.numpy import save_file

from rag_embedding.bert_graph import write_bert

HIDDEN, HEADS, WIDE, WORDS = 16, 2, 32, 50


def shapes():
    yield from (
        ("embeddings.word_embeddings.weight", (WORDS, HIDDEN)),
        ("embeddings.position_embeddings.weight", (12, HIDDEN)),
        ("embeddings.token_type_embeddings.weight", (2, HIDDEN)),
        ("embeddings.LayerNorm.weight", (HIDDEN,)),
        ("embeddings.LayerNorm.bias", (HIDDEN,)),
    )
    at = "encoder.layer.0"
    linear = [(f"{at}.attention.self.{n}", HIDDEN, HIDDEN) for n in ("query", "key", "value")]
    linear += [(f"{at}.attention.output.dense", HIDDEN, HIDDEN)]
    linear += [(f"{at}.intermediate.dense", WIDE, HIDDEN), (f"{at}.output.dense", HIDDEN, WIDE)]
    for name, rows, columns in linear:
        yield f"{name}.weight", (rows, columns)
        yield f"{name}.bias", (rows,)
    for name in (f"{at}.attention.output.LayerNorm", f"{at}.output.LayerNorm"):
        yield f"{name}.weight", (HIDDEN,)
        yield f"{name}.bias", (HIDDEN,)


@pytest.fixture
def model(tmp_path):
    rng = np.random.default_rng(0)
    weights = {n: rng.normal(0, 0.5, s).astype(np.float32) for n, s in shapes()}
    save_file(weights, tmp_path / "model.safetensors")
    config = {"model_type": "bert", "hidden_act": "gelu", "hidden_size": HIDDEN}
    config |= {"num_attention_heads": HEADS, "num_hidden_layers": 1, "layer_norm_eps": 1e-12}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path, weights


def encode(weights, ids):
    """The encoder's token vectors of one text."""

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    at, n = "encoder.layer.0", len(ids)
    x = weights["embeddings.word_embeddings.weight"][ids]
    x = x + weights["embeddings.position_embeddings.weight"][:n]
    x = norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    q, k, v = (
        linear(x, f"{at}.attention.self.{name}").reshape(n, HEADS, -1).transpose(1, 0, 2)
        for name in ("query", "key", "value")
    )
    scores = np.exp(q @ k.transpose(0, 2, 1) / math.sqrt(HIDDEN // HEADS))
    mixed = (scores / scores.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(n, HIDDEN)
    a = norm(linear(mixed, f"{at}.attention.output.dense") + x, f"{at}.attention.output.LayerNorm")
    wide = linear(a, f"{at}.intermediate.dense")
    gelu = wide * 0.5 * (1 + np.vectorize(math.erf)(wide / math.sqrt(2)))
    return norm(linear(gelu, f"{at}.output.dense") + a, f"{at}.output.LayerNorm")


def run(path, ids, mask):
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"input_ids": ids, "attention_mask": mask})


@pytest.mark.parametrize(("int8", "tolerance"), [(False, 1e-4), (True, 0.15)])
def test_the_graph_computes_the_encoder(model, tmp_path, int8, tolerance):
    folder, weights = model
    write_bert(folder, tmp_path / "m.onnx", int8=int8)
    ids = np.array([[3, 7, 9, 4, 0, 0], [5, 6, 1, 2, 8, 11]])
    mask = np.array([[1, 1, 1, 1, 0, 0], [1] * 6])
    sentences, tokens = run(tmp_path / "m.onnx", ids, mask)
    for row, length in enumerate((4, 6)):
        expected = encode(weights, ids[row, :length])
        assert np.abs(tokens[row, :length] - expected).max() < tolerance
        mean = expected.mean(0) / np.linalg.norm(expected.mean(0))
        assert sentences[row] @ mean > 1 - tolerance / 10


def test_another_architecture_is_refused(model, tmp_path):
    folder, _ = model
    (folder / "config.json").write_text('{"model_type": "gpt2", "hidden_act": "gelu"}')
    with pytest.raises(ValueError, match="expected a BERT encoder"):
        write_bert(folder, tmp_path / "m.onnx", int8=False)
