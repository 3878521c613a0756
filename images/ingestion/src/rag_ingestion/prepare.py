"""Convert and chunk one document: the pure work of a worker process."""

from importlib.metadata import version

from rag_ingestion.chunking import Chunked, ChunkSettings, chunk_document
from rag_ingestion.convert import convert, suffix
from rag_ingestion.errors import DocumentError, Reason

REVISION = "1"
"""Raised when this package cuts documents in another way; every document is then made anew."""


def prepare(key: str, data: bytes, settings: ChunkSettings) -> Chunked:
    """Title and chunks; raises `DocumentError` when the document has to be set aside."""
    chunked = chunk_document(key, convert(key, data), settings)
    if not chunked.chunks:
        raise DocumentError(Reason.EMPTY, "no text in it")
    return chunked


def recipe(key: str, settings: ChunkSettings) -> str:
    """All that decides what a document's bytes become, but for the tokenizer (the model's)."""
    return "/".join(
        (
            REVISION,
            suffix(key),
            version("markitdown"),
            version("semchunk"),
            str(settings.chunk_tokens),
            str(settings.overlap),
            str(settings.max_tokens),
        )
    )
