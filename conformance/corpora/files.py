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
    )


def load(folder: Path) -> LabelledCorpus:
    """The corpus in `folder`; raises `CorpusError` with file and line."""
    documents = [
        LabelledDocument(row["id"], row.get("title", ""), row["text"])
        for _, row in _rows(folder / DOCUMENTS, "document.schema.json")
    ]
    known = {d.id for d in documents}
    queries = [_query(w, r, known) for w, r in _rows(folder / QUERIES, "query.schema.json")]
    return LabelledCorpus(folder.resolve().name, documents, queries)
