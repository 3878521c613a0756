"""The JSON of answers, as plain values for orjson."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from fastapi import Response

from rag_retrieval.types import Outcome, Passage, Retrieval, Sentence

Json = dict[str, Any]


def json_response(body: Json, request_id: str) -> Response:
    """A JSON response that names its request."""
    content = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, media_type="application/json", headers={"x-request-id": request_id})


def _result(passage: Passage) -> Json:
    hit = passage.hit
    return {
        **_citation(passage),
        "start": hit.chunk.start,
        "end": hit.chunk.end,
        "score": passage.score,
        "dense_score": hit.dense_score,
        "dense_rank": hit.dense_rank,
        "lexical_score": hit.lexical_score,
        "lexical_rank": hit.lexical_rank,
    }


def retrieval_body(
    request_id: str, tenant: str, retrieval: Retrieval, timings_ms: Mapping[str, float]
) -> Json:
    """The body of `/v1/retrieve`."""
    vectors = retrieval.vectors
    return {
        "request_id": request_id,
        "tenant": tenant,
        "results": [_result(passage) for passage in retrieval.passages],
        "relevance": retrieval.relevance,
        "model": {"name": vectors.model_name, "digest": vectors.model_digest},
        "cache_hit": retrieval.cache_hit,
        "timings_ms": timings_ms,
    }


def sentence_view(sentence: Sentence) -> Json:
    """A verified sentence."""
    return {
        "text": sentence.text,
        "citations": sentence.citations,
        "support": sentence.support,
        "quoted": sentence.quoted,
    }


def _citation(passage: Passage) -> Json:
    hit, chunk = passage.hit, passage.hit.chunk
    return {
        "chunk_id": chunk.chunk_id,
        "doc_id": chunk.doc_id,
        "uri": hit.document_uri,
        "title": hit.document_title,
        "heading_path": chunk.heading_path,
        "text": chunk.text,
    }


def _cited(sentences: Iterable[Sentence], passages: Sequence[Passage]) -> list[Json]:
    by_id = {passage.hit.chunk.chunk_id: passage for passage in passages}
    ids = dict.fromkeys(chunk_id for s in sentences for chunk_id in s.citations)
    return [_citation(by_id[chunk_id]) for chunk_id in ids]


def answer_text(outcome: Outcome) -> str:
    """What the caller reads."""
    return " ".join(sentence.text for sentence in outcome.sentences)


def answer_body(
    request_id: str, retrieval: Retrieval, outcome: Outcome, timings_ms: Mapping[str, float]
) -> Json:
    """The body of `/v1/answer`, and the data of the stream's `done` event."""
    return {
        "request_id": request_id,
        "status": outcome.status,
        "answer": answer_text(outcome),
        "sentences": [sentence_view(sentence) for sentence in outcome.sentences],
        "citations": _cited(outcome.sentences, retrieval.passages),
        "decline_reason": outcome.decline_reason,
        "relevance": retrieval.relevance,
        "answerability": outcome.answerability,
        "model": outcome.model,
        "prompt_version": outcome.prompt_version,
        "usage": outcome.usage,
        "timings_ms": timings_ms,
    }
