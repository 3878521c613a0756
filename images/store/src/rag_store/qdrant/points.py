"""Documents and chunks as Qdrant's points."""

import uuid
from typing import Any

import numpy as np
from qdrant_client import models

from rag_store.base import EmbeddedChunk, indexed_text
from rag_store.bm25 import document_vector
from rag_store.versioned.records import DENSE, SPARSE, chunk_of, chunk_payload, late_of

_NAMESPACE = uuid.UUID("5b0f0c5e-4c0e-4d5e-9a53-3f1f6c0a7d11")


def document_point_id(doc_id: str) -> str:
    """The point id of a document."""
    return str(uuid.uuid5(_NAMESPACE, doc_id))


def document_point(body: dict[str, Any]) -> models.PointStruct:
    """The point of a document's record."""
    return models.PointStruct(id=document_point_id(body["doc_id"]), vector={}, payload=body)


def chunk_point(item: EmbeddedChunk, title: str, version: str) -> models.PointStruct:
    """The point of one chunk."""
    weights = document_vector(indexed_text(title, item.chunk))
    sparse = models.SparseVector(indices=list(weights), values=list(weights.values()))
    key = uuid.uuid5(_NAMESPACE, f"{version}/{item.chunk.ordinal}")
    vector: dict[str, Any] = {DENSE: item.dense.tolist(), SPARSE: sparse}
    payload = chunk_payload(item, version)
    return models.PointStruct(id=str(key), vector=vector, payload=payload)


def embedded_of(record: models.Record) -> EmbeddedChunk:
    """The chunk with its vectors in a record that was read with both."""
    payload = record.payload or {}
    assert isinstance(record.vector, dict)
    dense = np.asarray(record.vector[DENSE], dtype=np.float32)
    return EmbeddedChunk(chunk_of(payload), dense, late_of(payload))


def is_one(key: str, value: str | list[str]) -> models.FieldCondition:
    """A condition: the field equals the value, or one of the list's values."""
    match = (
        models.MatchAny(any=value) if isinstance(value, list) else models.MatchValue(value=value)
    )
    return models.FieldCondition(key=key, match=match)


def where(**fields: str | list[str]) -> models.Filter:
    """A filter for fields that equal a value, or one of a list's values."""
    return models.Filter(must=[is_one(key, value) for key, value in fields.items()])
