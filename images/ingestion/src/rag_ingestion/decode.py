"""Bytes to text without ever mangling: a charset the file itself names or proves, else set aside.

Guessing one by statistics is not sure enough: it takes Latin-1 for Latin-2 and goes on in silence.
"""

import codecs
import re

from rag_ingestion.errors import DocumentError, Reason

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARED = re.compile(rb"<(?:meta|\?xml)[^>]{0,200}?(?:charset|encoding)=[\"']?([\w.-]+)", re.I)


def decode(data: bytes) -> str:
    """The text; raises `DocumentError` (invalid-encoding) when no charset is sure."""
    text = _by_mark(data) or _by_utf8(data) or _by_declaration(data)
    if text is None or "\0" in text:
        raise DocumentError(
            Reason.ENCODING,
            "not UTF-8, and no byte order mark or declaration names another charset",
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _try(data: bytes, charset: str) -> str | None:
    try:
        return data.decode(charset)
    except (ValueError, LookupError):  # `charset=undefined` raises a plain UnicodeError
        return None


def _by_mark(data: bytes) -> str | None:
    charset = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    return _try(data, charset) if charset else None


def _by_utf8(data: bytes) -> str | None:
    return _try(data, "utf-8")


def _by_declaration(data: bytes) -> str | None:
    match = _DECLARED.search(data[:2048])
    return _try(data, match[1].decode("ascii")) if match else None
