"""Packed token vectors for late-interaction reranking (MaxSim): at most 6 kB a document.

A document keeps one bit a dimension after a fixed rotation, with a scale a vector that makes inner
products with an unquantised query unbiased; tokens beyond the budget (122 at 384 dimensions) are
merged with their most similar ones. A query keeps float16. Measured on fitz-gov, 400 random
questions over 1,500 documents (`benchmarks/embedding.py`), nDCG@10 against unpacked vectors:
+.001 +- .003; 4 bits on 31 pooled vectors lost .004-.006, PCA to 96-192 dimensions .006-.016.
"""

import hashlib
import struct
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

MAX_BYTES = 6144
MERGE_AT_ONCE = 512  # longer texts first average neighbours, so that the pairs stay few
_HEADER = struct.Struct("<BHH")  # format, dimension, vectors
_BITS, _FP16 = 1, 2
Matrix = npt.NDArray[np.float32]


class LateFormatError(ValueError):
    """The bytes are not packed token vectors of a known format."""


@lru_cache(maxsize=4)
def _rotation(d: int) -> Matrix:
    """A fixed orthogonal matrix: sign flips, then a cosine transform; it spreads outlier values."""
    flips = np.frombuffer(hashlib.shake_256(b"late interaction").digest(d), np.uint8) & 1
    k, i = np.arange(d)[:, None], np.arange(d)[None, :]
    cosines = np.sqrt(2 / d) * np.cos(np.pi * (i + 0.5) * k / d)
    cosines[0] /= np.sqrt(2)
    return np.asarray((1.0 - 2.0 * flips)[:, None] * cosines.T, np.float32)


def _unit(vectors: Matrix) -> Matrix:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), np.float32)


def _pairs(vectors: Matrix, count: int) -> list[tuple[int, int]]:
    """At most `count` disjoint pairs, the most similar first."""
    left, right = np.triu_indices(len(vectors), 1)
    free, found = set(range(len(vectors))), []
    for at in np.argsort(-(vectors @ vectors.T)[left, right], kind="stable"):
        a, b = int(left[at]), int(right[at])
        if a in free and b in free:
            found.append((a, b))
            free -= {a, b}
            if len(found) == count or len(free) < 2:
                break
    return found


def _pool(vectors: Matrix, size: int) -> Matrix:
    """At most `size` unit vectors: the most similar are merged pair by pair."""
    if len(vectors) > MERGE_AT_ONCE:
        starts = np.linspace(0, len(vectors), MERGE_AT_ONCE, endpoint=False).astype(int)
        vectors = _unit(np.add.reduceat(vectors, starts))
    weights = np.ones((len(vectors), 1), np.float32)
    while len(vectors) > size:
        # A quarter at a time, so that no vector is forced on a far one before it meets the merged.
        count = min(len(vectors) - size, -(-len(vectors) // 4))
        sums, pairs = vectors * weights, _pairs(vectors, count)
        a, b = np.array(pairs).T
        sums[a] += sums[b]
        weights[a] += weights[b]
        weights = np.delete(weights, b, axis=0)
        vectors = _unit(np.delete(sums, b, axis=0))
    return vectors


def pack(vectors: Matrix, *, pool: bool) -> bytes:
    """The bytes of unit vectors (n, d): `pool` for documents (lossy, at most 6 kB), else float16."""
    vectors = np.asarray(vectors, np.float32)
    if vectors.ndim != 2 or vectors.shape[1] % 8 or not np.isfinite(vectors).all():
        raise ValueError(f"expected finite vectors (n, multiple of 8), not {vectors.shape}")
    d = vectors.shape[1]
    if not pool:
        return _HEADER.pack(_FP16, d, len(vectors)) + vectors.astype("<f2").tobytes()
    rotated = _pool(vectors, (MAX_BYTES - _HEADER.size) // (d // 8 + 2)) @ _rotation(d)
    lengths = np.abs(rotated).sum(axis=1)  # the inner product with its own signs
    scales = (rotated**2).sum(axis=1) / np.maximum(lengths, 1e-12)
    bits = np.packbits(rotated > 0, axis=1)
    header = _HEADER.pack(_BITS, d, len(rotated))
    return b"".join((header, scales.astype("<f2").tobytes(), bits.tobytes()))


def _header(data: bytes) -> tuple[int, int, int]:
    """Format, dimension and number of vectors; raises `LateFormatError` unless `data` fits them."""
    if len(data) < _HEADER.size:
        raise LateFormatError(f"{len(data)} bytes are too few for token vectors")
    kind, d, n = _HEADER.unpack_from(data)
    size = {_BITS: d // 8 + 2, _FP16: 2 * d}.get(kind)
    if size is None or d % 8 or not d:
        raise LateFormatError(f"unknown format {kind} (dimension {d})")
    if len(data) != _HEADER.size + n * size:
        raise LateFormatError(f"{len(data)} bytes do not hold {n} vectors of dimension {d}")
    return kind, d, n


def _codes(data: bytes, d: int, n: int) -> tuple[npt.NDArray[np.uint8], Matrix]:
    """The packed bits (n, d / 8) and scales (n,) of a document."""
    scales = np.frombuffer(data, "<f2", n, _HEADER.size).astype(np.float32)
    bits = np.frombuffer(data, np.uint8, n * d // 8, _HEADER.size + 2 * n)
    return bits.reshape(n, d // 8), scales


def unpack(data: bytes) -> Matrix:
    """The vectors (m, d) of `data`, a document's approximately; raises `LateFormatError`."""
    kind, d, n = _header(data)
    if kind == _FP16:
        return np.frombuffer(data, "<f2", n * d, _HEADER.size).reshape(n, d).astype(np.float32)
    bits, scales = _codes(data, d, n)
    signs = 2 * np.unpackbits(bits, axis=1).astype(np.float32) - 1
    return np.asarray((signs * scales[:, None]) @ _rotation(d).T, np.float32)


def _best(query: Matrix, data: Sequence[bytes], sizes: Sequence[int]) -> Matrix:
    """MaxSim of the query with packed documents that have at least one vector each."""
    d = query.shape[1]
    parts = [_codes(item, d, n) for item, n in zip(data, sizes, strict=True)]
    bits = np.unpackbits(np.concatenate([bits for bits, _ in parts]), axis=1)
    rotated = query @ _rotation(d)
    # signs = 2 bits - 1, so the product needs the bits only
    products = 2 * (bits.astype(np.float32) @ rotated.T) - rotated.sum(axis=1)
    products *= np.concatenate([scales for _, scales in parts])[:, None]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return np.asarray(np.maximum.reduceat(products, starts).mean(axis=1), np.float32)


def maxsim(query: Matrix, docs: Sequence[bytes]) -> Matrix:
    """Mean over the query's tokens of the best similarity, for each document; -1 where empty.

    Raises `LateFormatError` for bad bytes or another dimension than the query's.
    """
    scores = np.full(len(docs), -1, np.float32)
    headers = [_header(doc) for doc in docs]
    if wrong := next((d for _, d, _ in headers if d != query.shape[1]), None):
        raise LateFormatError(f"dimension {wrong}, but the query has {query.shape[1]}")
    if not len(query):
        return scores
    packed = [i for i, (kind, _, n) in enumerate(headers) if kind == _BITS and n]
    if packed:
        scores[packed] = _best(query, [docs[i] for i in packed], [headers[i][2] for i in packed])
    for i, (kind, _, n) in enumerate(headers):
        if kind == _FP16 and n:
            scores[i] = (query @ unpack(docs[i]).T).max(axis=1).mean()
    return scores
