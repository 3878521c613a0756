"""Reading a labelled corpus from JSON lines; every error names file and line."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema

from conformance.corpora.model import LabelledCorpus, LabelledDocument, LabelledQuery
from conformance.errors import CorpusError

DOCUMENTS, QUERIES = "documents.jsonl", "queries.jsonl"
Row = tuple[str, dict[str, Any]]


def _validator(name: str) -> jsonschema.Draft202012Validator:
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return jsonschema.Draft202012Validator(json.loads(text))


def _parsed(where: str, line: str, validator: jsonschema.Draft202012Validator) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json.loads(line)
    except ValueError as error:
        raise CorpusError(f"{where}: not JSON: {error}") from error
    wrong = jsonschema.exceptions.best_match(validator.iter_errors(data))
    if wrong is not None:
        raise CorpusError(f"{where}: {wrong.json_path}: {wrong.message}")
    return data


def _rows(file: Path, schema: str) -> Iterator[Row]:
    validator, seen = _validator(schema), dict[str, str]()
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{file}: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{file}:{number}"
        data = _parsed(where, line, validator)
        if data["id"] in seen:
            raise CorpusError(f"{where}: id {data['id']} is also at {seen[data['id']]}")
        seen[data["id"]] = where
        yield where, data
    if not seen:
        raise CorpusError(f"{file}: the file is empty")


def _query(where: str, row: dict[str, Any], known: set[str]) -> LabelledQuery:
    if unknown := sorted(set(row["relevant"]) - known):
        raise CorpusError(f"{where}: relevant: no document {', '.join(unknown)}")
    equivalent = {k: tuple(v) for k, v in row.get("equivalent", {}).items()}
    if stray := sorted(equivalent.keys() - set(row["relevant"])):
        raise CorpusError(f"{where}: equivalent: {', '.join(stray)} is not in relevant")
    if unknown := sorted({name for names in equivalent.values() for name in names} - known):
        raise CorpusError(f"{where}: equivalent: no document {', '.join(unknown)}")
    for pattern in row.get("forbidden_claims", []):
        try:
            re.compile(pattern)
        except re.error as error:
            raise CorpusError(f"{where}: forbidden_claims: {pattern!r}: {error}") from error
    return LabelledQuery(
        id=row["id"],
        text=row["query"],
        answerable=row["answerable"],
        relevant=tuple(row["relevant"]),
        category=row.get("category", ""),
        answer=row.get("answer", ""),
        facts=tuple(tuple(fact) for fact in row.get("facts", [])),
        forbidden_claims=tuple(row.get("forbidden_claims", [])),
        equivalent=equivalent,
    )


def _documents(file: Path) -> list[LabelledDocument]:
    """The documents; one that repeats another's text is refused, as the ingestion would do."""
    first: dict[str, str] = {}
    documents = []
    for where, row in _rows(file, "document.schema.json"):
        document = LabelledDocument(row["id"], row.get("title", ""), row["text"])
        if document.markdown in first:
            same = first[document.markdown]
            raise CorpusError(f"{where}: the same title and text as {same}: keep one, relabel")
        first[document.markdown] = document.id
        documents.append(document)
    return documents


def load(folder: Path) -> LabelledCorpus:
    """The corpus in `folder`; raises `CorpusError` with file and line."""
    documents = _documents(folder / DOCUMENTS)
    known = {d.id for d in documents}
    queries = [_query(w, r, known) for w, r in _rows(folder / QUERIES, "query.schema.json")]
    return LabelledCorpus(folder.resolve().name, documents, queries)
