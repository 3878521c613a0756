"""The contract of a backend, on every backend that can be loaded here."""

import importlib.util
import json

import numpy as np
import pytest
from tokenizers import Tokenizer

from rag_assets import fetch
from rag_embedding.backend import BackendError, InvalidTokensError, open_backend
from rag_embedding.onnx_backend import OnnxBackend
from rag_embedding.settings import Settings

FLAG = importlib.util.find_spec("FlagEmbedding") is not None
TEXTS = ["Paris is the capital of France.", "A cat sleeps on the sofa.", "word " * 400]
DENSE, LATE = frozenset({"dense"}), frozenset({"dense", "late"})


def make(kind):
    if kind == "flagembedding":
        from rag_embedding.flag_backend import FlagBackend

        return FlagBackend(str(fetch("all-minilm-l6-v2")), "fp32")
    return OnnxBackend("all-minilm-l6-v2", kind, 2)


@pytest.fixture(scope="module", params=["int8", "fp32"] + ["flagembedding"] * FLAG)
def backend(request):
    return make(request.param)


def test_dense_vectors_have_unit_length(backend):
    vectors = backend.embed(backend.encode(TEXTS), DENSE)
    assert all(v.dense.shape == (backend.dimension,) and v.tokens is None for v in vectors)
    assert np.allclose([np.linalg.norm(v.dense) for v in vectors], 1, atol=1e-3)


def test_similar_texts_are_near(backend):
    texts = [*TEXTS[:2], "What is the capital of France?"]
    near, far, query = (v.dense for v in backend.embed(backend.encode(texts), DENSE))
    assert query @ near > query @ far + 0.3


def test_truncation_is_told(backend):
    short, _, long = backend.encode(TEXTS)
    assert (short.truncated, long.truncated) == (False, True)
    assert len(long.ids) == backend.max_tokens


def test_the_tokenizer_neither_pads_nor_truncates(backend):
    tokenizer = Tokenizer.from_str(backend.tokenizer_json())
    assert len(tokenizer.encode(TEXTS[2]).ids) == 402
    assert json.loads(backend.tokenizer_json())["padding"] is None


def test_ids_stand_for_their_text(backend):
    (encoded,) = backend.encode(TEXTS[:1])
    wrapped = backend.wrap(encoded.ids[1:-1])
    assert wrapped.ids == encoded.ids
    one, two = backend.embed([encoded, wrapped], DENSE)
    assert one.dense @ two.dense > 0.999
    for bad in ([10**9], [-1]):
        with pytest.raises(InvalidTokensError):
            backend.wrap(bad)


def test_batch_mates_do_not_change_a_vector(backend):
    encoded = backend.encode([*TEXTS, "short"])
    together = backend.embed(encoded, DENSE)
    for item, vector in zip(encoded, together, strict=True):
        assert backend.embed([item], DENSE)[0].dense @ vector.dense > 0.9999


def test_token_vectors_leave_out_the_special_tokens(backend):
    if "late" not in backend.outputs:
        pytest.skip("the model has no late interaction")
    encoded = backend.encode([*TEXTS, " "])
    for item, vectors in zip(encoded, backend.embed(encoded, LATE), strict=True):
        assert vectors.tokens.shape == (len(item.ids) - 2, backend.dimension)
        assert np.allclose(np.linalg.norm(vectors.tokens, axis=1), 1, atol=1e-3)


def test_int8_is_close_to_fp32_and_has_a_digest_of_its_own():
    int8, fp32 = make("int8"), make("fp32")
    encoded = int8.encode(TEXTS)
    pairs = zip(int8.embed(encoded, DENSE), fp32.embed(encoded, DENSE), strict=True)
    assert min(a.dense @ b.dense for a, b in pairs) > 0.99
    assert int8.digest != fp32.digest
    assert make("int8").digest == int8.digest


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"model": "nope"}, "no asset 'nope'"),
        ({"precision": "fp16"}, "int8 and fp32"),
        ({"backend": "flagembedding"}, "int8 is onnx's"),
    ],
)
def test_what_cannot_be_opened_says_why(settings, says):
    with pytest.raises(BackendError, match=says):
        open_backend(Settings().model_copy(update=settings))


@pytest.mark.skipif(FLAG, reason="FlagEmbedding is installed")
def test_the_missing_extra_is_named():
    settings = Settings().model_copy(update={"backend": "flagembedding", "precision": "fp16"})
    with pytest.raises(BackendError, match=r"rag-embedding\[flagembedding\]"):
        open_backend(settings)
