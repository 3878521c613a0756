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

Case = Mapping[str, Any]
_PREFIXES = ("", "t1_", "t0_")


def cases(folder: Path) -> dict[str, Case]:
    """Every case of the data set's tiers by its id."""
    files = sorted(folder.glob("tier*/*.json"))
    return {case["id"]: case for file in files for case in json.loads(file.read_text())["cases"]}


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def contradicted(
    query_id: str, question: str, texts: Sequence[str], known: Mapping[str, Case]
) -> bool:
    """Whether a case of the same question has contexts of which no relevant text holds one."""
    case = next((known[p + query_id] for p in _PREFIXES if p + query_id in known), None)
    if not texts or case is None or _plain(case["query"]) != _plain(question):
        return False
    relevant = [_plain(text) for text in texts]
    return not any(c in r or r in c for c in map(_plain, case["contexts"]) for r in relevant)
