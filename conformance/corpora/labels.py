"""Which labels of fitz-gov contradict the data set itself.

Many ids were used twice: the mapping then names documents of another question. A case of the same
question tells by its contexts what does answer it; when none of them stands in a document that the
mapping calls relevant, the label is wrong and the question is left out.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer

Case = Mapping[str, Any]
_PREFIXES = ("", "t1_", "t0_")
_SHARED, _FEWEST_TERMS = 0.8, 5


def cases(folder: Path) -> dict[str, Case]:
    """Every case of the data set's tiers by its id."""
    files = sorted(folder.glob("tier*/*.json"))
    return {case["id"]: case for file in files for case in json.loads(file.read_text())["cases"]}


def plain(text: str) -> str:
    """Lower-case words alone."""
    return " ".join(re.findall(r"\w+", text.lower()))


def contradicted(
    query_id: str, question: str, texts: Sequence[str], known: Mapping[str, Case]
) -> bool:
    """Whether a case of the same question has contexts of which no relevant text holds one."""
    case = next((known[p + query_id] for p in _PREFIXES if p + query_id in known), None)
    if not texts or case is None or plain(case["query"]) != plain(question):
        return False
    relevant = [plain(text) for text in texts]
    return not any(c in r or r in c for c in map(plain, case["contexts"]) for r in relevant)


def near_copies(texts: Mapping[str, str], wanted: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """For each of the `wanted` ids the others that share 0.8 of the shorter text's terms.

    The data set has many texts twice, slightly reworded under another id; only one is labelled.
    """
    ids = list(texts)
    terms = CountVectorizer(binary=True, stop_words="english").fit_transform(texts.values())
    rows = [i for i, name in enumerate(ids) if name in set(wanted)]
    sizes = np.asarray(terms.sum(axis=1)).ravel()
    shared = (terms[rows] @ terms.T).toarray()
    shorter = np.maximum(np.minimum(sizes[rows][:, None], sizes[None, :]), _FEWEST_TERMS)
    return {
        ids[row]: tuple(ids[j] for j in np.flatnonzero(near) if j != row)
        for row, near in zip(rows, shared >= _SHARED * shorter, strict=True)
    }
