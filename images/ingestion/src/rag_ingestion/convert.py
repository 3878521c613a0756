"""One document's bytes to Markdown text, by MarkItDown where the format needs it.

Runs in a worker process for everything but small plain text (see `workers`).
"""

import io
import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from rag_ingestion.decode import decode
from rag_ingestion.errors import DocumentError, Reason
from rag_ingestion.pdf_text import glued, repaired, spaced

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")
_PDF_TAIL = 2048
_MAX_EXPANDED_BYTES = 512_000_000

TEXT = frozenset({".txt", ".text", ".log", ".jsonl"})
MARKDOWN = frozenset({".md", ".markdown"})
IN_PROCESS = TEXT | MARKDOWN | {".json"}


@dataclass(frozen=True, slots=True)
class Converted:
    """A document as text; `markdown` says whether headings and tables are to be looked for.

    `title` is what the file calls itself; `headed` whether its first heading is a better one.
    """

    text: str
    markdown: bool
    title: str | None = None
    headed: bool = True


def suffix(key: str) -> str:
    """The format by the file name's ending, in lower case with its dot."""
    return PurePosixPath(key).suffix.lower()


def supported(key: str) -> None:
    """Raise `DocumentError` when there is no converter for the file's name."""
    if suffix(key) not in _CONVERTERS:
        raise DocumentError(Reason.UNSUPPORTED, f"no converter for {suffix(key) or 'no suffix'!r}")


def check(key: str, data: bytes) -> None:
    """Raise `DocumentError` for what is plainly no such file, without a parser's cost or risk."""
    supported(key)
    if not data:
        raise DocumentError(Reason.EMPTY, "the file has no bytes")
    if suffix(key) == ".pdf":
        _check_pdf(data)
    elif suffix(key) in _OFFICE:
        _check_office(data)


def convert(key: str, data: bytes) -> Converted:
    """The document as text; raises `DocumentError` when it has none or cannot be read."""
    check(key, data)
    converted = _CONVERTERS[suffix(key)](key, data)
    text = _clean(converted.text)
    if not text.strip():
        raise DocumentError(Reason.EMPTY, "no text in it")
    return replace(converted, text=text)


def _clean(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n\n")
    # converters can emit what UTF-8 and PostgreSQL cannot hold
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _text(key: str, data: bytes) -> Converted:
    return Converted(decode(data), markdown=suffix(key) in MARKDOWN)


def _json(_: str, data: bytes) -> Converted:
    text = decode(data)
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DocumentError(Reason.CORRUPT, f"not JSON: {error}") from error
    return Converted(text, markdown=False)


def _decoded(key: str, data: bytes) -> Converted:
    return _markitdown(key, decode(data).encode())


def _check_pdf(data: bytes) -> None:
    if b"%PDF-" not in data[:1024]:
        raise DocumentError(Reason.CORRUPT, "no PDF header")
    if b"%%EOF" not in data[-_PDF_TAIL:]:
        raise DocumentError(Reason.CORRUPT, "the PDF is cut off: no end-of-file mark")


def _check_office(data: bytes) -> None:
    if data.startswith(_OLE):
        if _ENCRYPTED_PACKAGE in data:
            raise DocumentError(Reason.ENCRYPTED, "the Office file has a password")
        raise DocumentError(Reason.UNSUPPORTED, "an Office 97-2003 file under a newer name")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            expanded = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise DocumentError(Reason.CORRUPT, f"not an Office file: {error}") from error
    if expanded > _MAX_EXPANDED_BYTES:
        raise DocumentError(Reason.TOO_LARGE, f"{expanded / 1e6:.0f} MB when unpacked")


def _markitdown(key: str, data: bytes) -> Converted:
    """By the one converter of the format: MarkItDown's dispatcher would fall back to raw bytes."""
    from markitdown import StreamInfo, converters  # two to five seconds

    ending = suffix(key)
    converter = getattr(converters, _MARKITDOWN[ending])()
    info = StreamInfo(extension=ending, charset="utf-8" if ending in _DECODED else None)
    try:
        result = converter.convert(io.BytesIO(data), info)
    except MemoryError as error:
        raise DocumentError(Reason.MEMORY, "the converter ran out of memory") from error
    except Exception as error:  # any parser error is the document's
        raise _reason_of(error) from error
    text = _SLIDE.sub("", result.markdown)
    if ending == ".pdf":
        text = repaired(spaced(data) if glued(text) else text)
    return Converted(text, markdown=True, title=result.title, headed=ending not in _SHEETS)


def _reason_of(error: BaseException) -> DocumentError:
    names = f"{type(error).__name__} {error!r} {error.__context__!r}"
    if "Password" in names or "Encryption" in names:
        return DocumentError(Reason.ENCRYPTED, "the document has a password")
    if "MemoryError" in names:
        return DocumentError(Reason.MEMORY, "the converter ran out of memory")
    return DocumentError(Reason.CORRUPT, f"{type(error).__name__}: {error}"[:300])


_OFFICE = frozenset({".docx", ".pptx", ".xlsx"})
_SHEETS = frozenset({".xlsx"})
_SLIDE = re.compile(r"^<!-- Slide number: \d+ -->\n?", re.MULTILINE)
_DECODED = frozenset({".html", ".htm", ".xhtml", ".csv"})
_MARKITDOWN = {
    ".pdf": "PdfConverter",
    ".docx": "DocxConverter",
    ".pptx": "PptxConverter",
    ".xlsx": "XlsxConverter",
    ".html": "HtmlConverter",
    ".htm": "HtmlConverter",
    ".xhtml": "HtmlConverter",
    ".csv": "CsvConverter",
}
_CONVERTERS: dict[str, Callable[[str, bytes], Converted]] = {
    **dict.fromkeys(TEXT | MARKDOWN, _text),
    ".json": _json,
    **dict.fromkeys(_DECODED, _decoded),
    **dict.fromkeys(_OFFICE | {".pdf"}, _markitdown),
}
