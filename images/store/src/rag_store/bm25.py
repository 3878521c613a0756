"""BM25 as a dot product of sparse vectors, so that every store ranks text the same.

A document's vector holds the saturated frequency of each term, a query's the inverse document
frequency. Terms are hashed to `DIMENSIONS - 1` ids (what pgvector's sparsevec can hold). Two
terms that share an id count as one: among 200,000 distinct terms some 20 pairs do, and the
worst that follows is a rare term that weighs less than it should.
"""

import math
import re
import threading
import unicodedata
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b

from Stemmer import Stemmer

from rag_store._stopwords import STOP_WORDS

K1 = 1.2
B = 0.75
AVERAGE_LENGTH = 100.0  # terms of a chunk; fixed, so that a document's vector never goes stale
DIMENSIONS = 1_000_000_000
_WORD = re.compile(r"\w+(?:'\w+)*")
_local = threading.local()


def _stem(word: str) -> str:
    if not hasattr(_local, "stemmer"):
        _local.stemmer = Stemmer("english")  # not safe to share between threads
    stem: str = _local.stemmer.stemWord(word)
    return stem


@lru_cache(maxsize=1 << 16)
def term_id(word: str) -> int | None:
    """The id (1 … DIMENSIONS - 1) of a lower-case word's stem, None for a stop word."""
    if word in STOP_WORDS:
        return None
    digest = blake2b(_stem(word).encode(), digest_size=8).digest()
    return int.from_bytes(digest) % (DIMENSIONS - 1) + 1


def term_ids(text: str) -> list[int]:
    """The ids of the text's terms in order, stop words left out."""
    words = _WORD.findall(unicodedata.normalize("NFKC", text).replace("’", "'").casefold())
    return [term for word in words if (term := term_id(word)) is not None]


def document_vector(text: str) -> dict[int, float]:
    """Saturated weight of each term of a document, by term id."""
    terms = term_ids(text)
    norm = K1 * (1 - B + B * len(terms) / AVERAGE_LENGTH)
    return {term: n * (K1 + 1) / (n + norm) for term, n in Counter(terms).items()}


def query_terms(text: str) -> list[int]:
    """The distinct terms of a query, sorted."""
    return sorted(set(term_ids(text)))


def idf(total: int, frequency: int) -> float:
    """Weight of a term that `frequency` of `total` documents hold."""
    return math.log(1 + (total - frequency + 0.5) / (frequency + 0.5))


def query_vector(text: str, total: int, frequencies: Mapping[int, int]) -> dict[int, float]:
    """IDF weight of each query term that some document holds, by term id."""
    found = {term: frequencies.get(term, 0) for term in query_terms(text)}
    return {term: idf(total, n) for term, n in found.items() if n > 0}
