"""Bytes to text without ever mangling: a sure charset, or the document is set aside."""

import codecs
import re

from charset_normalizer import from_bytes

from rag_ingestion.errors import DocumentError, Reason

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARED = re.compile(rb"<(?:meta|\?xml)[^>]{0,200}?(?:charset|encoding)=[\"']?([\w.-]+)", re.I)
_SAMPLE = 1_000_000
_MIN_COHERENCE = 0.2


def decode(data: bytes) -> str:
    """The text; raises `DocumentError` (invalid-encoding) when no charset is sure."""
    text = _by_mark(data) or _by_utf8(data) or _by_declaration(data) or _by_statistics(data)
    if text is None or "\0" in text:
        raise DocumentError(Reason.ENCODING, "neither UTF-8 nor surely another charset")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _try(data: bytes, charset: str) -> str | None:
    try:
        return data.decode(charset)
    except (UnicodeDecodeError, LookupError):
        return None


def _by_mark(data: bytes) -> str | None:
    charset = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    return _try(data, charset) if charset else None


def _by_utf8(data: bytes) -> str | None:
    return _try(data, "utf-8")


def _by_declaration(data: bytes) -> str | None:
    match = _DECLARED.search(data[:2048])
    return _try(data, match[1].decode("ascii")) if match else None


def _by_statistics(data: bytes) -> str | None:
    best = from_bytes(data[:_SAMPLE]).best()
    if best is None or best.chaos > 0 or best.coherence < _MIN_COHERENCE:
        return None
    return _try(data, best.encoding)
