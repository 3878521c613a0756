"""Text as hashed counts of words, word pairs and character n-grams: no vocabulary to store."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import HashingVectorizer

from rag_guard.normalise import plain

WORD_BITS, CHARACTER_BITS = 18, 18
SIZE = 2**WORD_BITS + 2**CHARACTER_BITS


def _hashing(bits: int, analyzer: str, sizes: tuple[int, int]) -> HashingVectorizer:
    return HashingVectorizer(
        n_features=2**bits,
        analyzer=analyzer,
        ngram_range=sizes,
        lowercase=False,
        alternate_sign=False,
        norm=None,
        dtype=np.float32,
    )


_WORDS = _hashing(WORD_BITS, "word", (1, 2))
_CHARACTERS = _hashing(CHARACTER_BITS, "char_wb", (3, 5))


def counts(texts: list[str]) -> csr_matrix:
    """One row a text: 1 + ln(count), words first, then characters."""
    prepared = [plain(text) for text in texts]
    parts = [_WORDS.transform(prepared), _CHARACTERS.transform(prepared)]
    matrix = csr_matrix(hstack(parts, format="csr"))
    matrix.data = 1 + np.log(matrix.data)
    return matrix


def weigh(matrix: csr_matrix, idf: NDArray[np.float32]) -> csr_matrix:
    """Rows weighted by inverse document frequency; the word and the character part unit length each."""
    data = matrix.data * idf[matrix.indices]
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    part = 2 * rows + (matrix.indices >= 2**WORD_BITS)
    squares = np.bincount(part, data**2, 2 * matrix.shape[0])
    data = data / np.sqrt(np.maximum(squares, 1e-12))[part]
    return csr_matrix((data.astype(np.float32), matrix.indices, matrix.indptr), matrix.shape)


def inverse_frequency(matrix: csr_matrix) -> NDArray[np.float32]:
    """Smoothed inverse document frequency; zero for what fewer than two texts have."""
    present = np.bincount(matrix.indices, minlength=matrix.shape[1])
    idf = np.log((1 + matrix.shape[0]) / (1 + present)) + 1
    return np.where(present >= 2, idf, 0).astype(np.float32)
