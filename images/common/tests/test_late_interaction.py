import struct

import numpy as np
import pytest

from rag_common import late_interaction
from rag_common.late_interaction import MAX_BYTES, LateFormatError, maxsim, pack, unpack


def units(n, d=384, seed=0):
    vectors = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def related(n, seed=0):
    """Token vectors as an encoder makes them: a shared part and one of their own."""
    mixed = units(1, seed=seed) + 0.8 * units(n, seed=seed + 1)
    return mixed / np.linalg.norm(mixed, axis=1, keepdims=True)


@pytest.mark.parametrize("n", [0, 1, 2, 121, 122, 123, 254, 256, 700, 3000])
@pytest.mark.parametrize("d", [384, 1024])
def test_a_document_never_exceeds_its_budget(n, d):
    data = pack(units(n, d), pool=True)
    assert len(data) <= MAX_BYTES
    assert unpack(data).shape[1] == d
    assert (len(unpack(data)) == n) == (n * (d // 8 + 2) + 5 <= MAX_BYTES)


@pytest.mark.parametrize("n", [0, 1, 40])
def test_a_query_keeps_its_vectors(n):
    vectors = units(n)
    assert np.allclose(unpack(pack(vectors, pool=False)), vectors, atol=1e-3)


def test_a_documents_vectors_point_where_they_did():
    vectors = units(50)
    found = unpack(pack(vectors, pool=True))
    cosines = (vectors * found).sum(1) / np.linalg.norm(found, axis=1)
    assert cosines.min() > 0.75  # one bit a dimension: sqrt(2 / pi) is expected
    assert np.allclose((vectors * found).sum(1), 1, atol=0.01)  # unbiased with itself


def test_outlier_dimensions_do_not_drown_the_rest():
    vectors = units(60)
    vectors[:, 7] += 3
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = unpack(pack(vectors, pool=True))
    cosines = (vectors * found).sum(1) / np.linalg.norm(found, axis=1)
    assert cosines.min() > 0.6


@pytest.mark.parametrize("tokens", [60, 200])
def test_maxsim_ranks_like_the_unpacked_vectors(tokens):
    documents = [related(tokens, seed) for seed in range(0, 60, 3)]
    query = documents[4][10:22] + 0.5 * units(12, seed=99)
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    exact = np.array([(query @ d.T).max(1).mean() for d in documents])
    found = maxsim(query, [pack(d, pool=True) for d in documents])
    assert found.argmax() == exact.argmax() == 4
    assert np.corrcoef(exact, found)[0, 1] > 0.95


def test_maxsim_agrees_with_unpack_in_both_formats():
    query, one, two = units(5, seed=1), related(30), related(20, seed=5)
    docs = [pack(one, pool=True), pack(two, pool=False)]
    expected = [(query @ unpack(d).T).max(1).mean() for d in docs]
    assert np.allclose(maxsim(query, docs), expected, atol=1e-5)


def test_empty_documents_and_queries_score_lowest():
    empty, some = pack(units(0), pool=True), pack(units(3), pool=True)
    scores = maxsim(units(2), [empty, some, empty])
    assert scores[0] == scores[2] == -1 < scores[1]
    assert maxsim(units(0), [some]).tolist() == [-1]
    assert maxsim(units(2), []).shape == (0,)


def test_equal_vectors_merge_into_one():
    pooled = late_interaction._pool(np.repeat(units(100), 3, axis=0), 122)
    assert len(pooled) == 122
    assert (units(100) @ pooled.T).max(axis=1).min() > 0.999


def test_the_same_vectors_give_the_same_bytes():
    assert pack(units(200), pool=True) == pack(units(200), pool=True)


def header(kind, d, n):
    return struct.pack("<BHH", kind, d, n)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        header(9, 384, 0),
        header(1, 384, 2) + b"x",
        header(1, 383, 0),
        header(1, 0, 0),
        header(2, 384, 1),
        pack(units(3), pool=True) + b"x",
    ],
)
def test_bad_bytes_are_refused(data):
    with pytest.raises(LateFormatError):
        unpack(data)
    with pytest.raises(LateFormatError):
        maxsim(units(2), [data])


def test_another_dimension_is_refused():
    with pytest.raises(LateFormatError, match="dimension 384, but the query has 128"):
        maxsim(units(2, 128), [pack(units(2), pool=True)])


@pytest.mark.parametrize("bad", [np.zeros(8), np.zeros((2, 7)), np.full((2, 8), np.nan)])
def test_what_is_not_a_matrix_of_numbers_is_not_packed(bad):
    with pytest.raises(ValueError, match="finite vectors"):
        pack(bad, pool=True)
