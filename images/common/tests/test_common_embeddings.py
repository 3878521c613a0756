"""Answers of an embedding service, right and wrong."""

import base64

import numpy as np
import pytest

from rag_common.embeddings import EmbeddingsFormatError, embeddings_of


def encoded(*numbers):
    return base64.b64encode(np.array(numbers, "<f4").tobytes()).decode()


def answer(*vectors, **more):
    data = [
        {"index": n, "embedding": encoded(*numbers), "late": encoded(n)}
        for n, numbers in enumerate(vectors)
    ]
    return {"data": data[::-1], "model_digest": "d"} | more


def test_items_come_in_the_texts_order():
    found = embeddings_of(answer((1, 2), (3, 4)), 2)
    assert [item.dense.tolist() for item in found.items] == [[1, 2], [3, 4]]
    assert [item.late for item in found.items] == [None, None]
    assert found.model_digest == "d"


def test_late_vectors_are_taken_where_they_were_asked_for():
    found = embeddings_of(answer((1, 2), (3, 4)), 2, late=True)
    assert [item.late for item in found.items] == [np.float32(n).tobytes() for n in (0, 1)]


def test_no_texts_have_no_embeddings():
    assert embeddings_of(answer(), 0).items == []


def changed(**fields):
    made = answer((1, 2), (3, 4))
    made["data"][0] |= fields
    return made


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (None, "not embeddings: TypeError"),
        ([], "not embeddings: TypeError"),
        ({"model_digest": "d"}, "KeyError: 'data'"),
        ({"data": answer((1,), (2,))["data"]}, "KeyError: 'model_digest'"),
        (answer((1, 2)), "1 embeddings of 2 texts"),
        (answer((1,), (2,), (3,)), "3 embeddings of 2 texts"),
        (changed(index=0), "1 embeddings of 2 texts"),
        (changed(index="first"), "not embeddings: ValueError"),
        (changed(index=None), "not embeddings: TypeError"),
        (changed(embedding="?"), "not embeddings: Error"),
        (changed(embedding="AAAA"), "not embeddings: ValueError"),
        (changed(embedding=""), "empty or non-finite"),
        (changed(embedding=[1.0, 2.0]), "not embeddings: TypeError"),
        (changed(embedding=encoded(1, np.nan)), "empty or non-finite"),
        (changed(embedding=encoded(1, np.inf)), "empty or non-finite"),
        (changed(embedding=encoded(1, 2, 3)), "different lengths"),
        (changed(late=None), "not embeddings: TypeError"),
        (changed(late="?"), "not embeddings: Error"),
    ],
)
def test_wrong_answers_are_refused(wrong, reason):
    with pytest.raises(EmbeddingsFormatError, match=reason):
        embeddings_of(wrong, 2, late=True)
