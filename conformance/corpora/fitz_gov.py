"""The built-in corpus: fitz-gov, cleaned of what cannot be labelled rightly."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from conformance.corpora import labels
from conformance.corpora.model import LabelledCorpus, LabelledDocument, LabelledQuery
from conformance.errors import CorpusError

ASSET = "fitz-gov"
UNANSWERABLE = "abstention"
GOLD = Path(__file__).parent / "gold" / "fitz-gov-answers.jsonl"


def held_out(query_id: str) -> bool:
    """Whether the gates may ask this question: the other half may have served to tune."""
    return int(hashlib.sha256(query_id.encode()).hexdigest(), 16) % 10 >= 5


def _documents(file: Path) -> list[LabelledDocument]:
    """Documents with text whose id means one text only."""
    found: dict[str, dict[str, LabelledDocument]] = defaultdict(dict)
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        text = (row.get("content") or "").strip()
        document = LabelledDocument(row["id"], (row.get("title") or "").strip(), text)
        found[document.id][text] = document
    single = (next(iter(texts.values())) for texts in found.values() if len(texts) == 1)
    return [document for document in single if document.text]


def _without_copies(
    documents: list[LabelledDocument],
) -> tuple[list[LabelledDocument], dict[str, str]]:
    """The first of equal documents, and for every id the id that stands for it."""
    first: dict[str, LabelledDocument] = {}
    for document in documents:
        first.setdefault(document.markdown, document)
    return list(first.values()), {d.id: first[d.markdown].id for d in documents}


def _queries(file: Path) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    mappings = json.loads(file.read_text(encoding="utf-8"))["mappings"]
    for category, queries in mappings.items():
        for query_id, query in queries.items():
            yield category, query_id, query


def _gold(file: Path) -> dict[str, Mapping[str, Any]]:
    rows = (json.loads(line) for line in file.read_text(encoding="utf-8").splitlines())
    return {row["query_id"]: row for row in rows}


def _labelled(
    category: str,
    query_id: str,
    query: Mapping[str, Any],
    known: Mapping[str, str],
    gold: Mapping[str, Any],
) -> LabelledQuery | None:
    """The question, or None when its label is lost: no document left, or both yes and no."""
    relevant = tuple(dict.fromkeys(known[n] for n in query["relevant_docs"] if n in known))
    if query["relevant_docs"] and (not relevant or category == UNANSWERABLE):
        return None
    return LabelledQuery(
        id=query_id,
        text=query["query"],
        answerable=bool(relevant),
        relevant=relevant,
        category=category,
        answer=gold.get("answer", ""),
        facts=tuple(tuple(fact) for fact in gold.get("facts", ())),
        forbidden_claims=tuple(query.get("forbidden_claims", ())),
    )


def read(folder: Path, gold_file: Path = GOLD) -> LabelledCorpus:
    """The corpus from the asset's folder; raises `CorpusError` when it is not as expected."""
    try:
        documents = _documents(folder / "corpus" / "documents.jsonl")
        rows = list(_queries(folder / "queries" / "query_mappings.json"))
        gold = _gold(gold_file)
        cases = labels.cases(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"{folder}: not the fitz-gov data set: {error!r}") from error
    if unknown := sorted(set(gold) - {query_id for _, query_id, _ in rows}):
        raise CorpusError(f"{gold_file}: no such query: {', '.join(unknown[:5])}")
    documents, known = _without_copies(documents)
    texts = {d.id: d.text for d in documents}
    # The data set repeats questions under other ids: those of the tuning half were learnt from.
    tuned = {labels.plain(q["query"]) for _, query_id, q in rows if not held_out(query_id)}
    asked = (
        _labelled(category, query_id, query, known, gold.get(query_id, {}))
        for category, query_id, query in rows
        if held_out(query_id)
    )
    kept = [
        q
        for q in asked
        if q is not None
        and labels.plain(q.text) not in tuned
        and not labels.contradicted(q.id, q.text, [texts[name] for name in q.relevant], cases)
    ]
    near = labels.near_copies(texts, [name for query in kept for name in query.relevant])
    return LabelledCorpus(ASSET, documents, [_with_copies(query, near) for query in kept])


def _with_copies(query: LabelledQuery, near: Mapping[str, tuple[str, ...]]) -> LabelledQuery:
    return replace(query, equivalent={name: near[name] for name in query.relevant if near[name]})


def _fetched() -> Path:
    from rag_assets import AssetError, fetch

    try:
        return fetch(ASSET)
    except AssetError as error:
        raise CorpusError(f"{ASSET}: {error}") from error


def documents() -> list[LabelledDocument]:
    """Every document of the asset that has one text; raises `CorpusError`."""
    return _documents(_fetched() / "corpus" / "documents.jsonl")


def load() -> LabelledCorpus:
    """Fetch the asset and read it; raises `CorpusError`."""
    return read(_fetched())
