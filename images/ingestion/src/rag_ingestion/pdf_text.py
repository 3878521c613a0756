"""Text of a PDF as it reads: spaces between words, no running headers and footers, lines joined."""

import re
from collections import Counter

import pypdfium2

EDGE_LINES = 3  # where on a page headers and footers stand
MIN_REPEATS, MIN_SHARE = 4, 0.2
FULL_LINE = 50  # characters; a shorter line was ended by its author
LONG_WORD, GLUED_SHARE = 30, 0.1  # characters; the share of the text that stands in longer words
_LINK = re.compile(r"[/\\@_=]")
_DIGITS = re.compile(r"\d{1,4}")
_STARTS = re.compile(r"\s*(?:[|#>•●▪*–-]|\d+[.)]\s|[a-z][.)]\s|\(?[ivx]+[.)]\s)")
_ENDS = re.compile(r"[.:;!?|]['\")\]]*\s*$")


def repaired(text: str) -> str:
    """`text` of pages that blank lines part, without what repeats at their edges, unwrapped."""
    pages = [page.split("\n") for page in re.split(r"\n{2,}", text)]
    running = _running(pages)
    kept = (_without(page, number, running) for number, page in enumerate(pages))
    joined = "\n\n".join("\n".join(_unwrapped(page)) for page in kept if page)
    return joined or text  # the same line on every page is all there is


def glued(text: str) -> bool:
    """Whether the words of `text` run together: its page shows spaces that its characters lack."""
    words = [word for word in text.split() if word[:1].isalpha() and not _LINK.search(word)]
    long = sum(len(word) for word in words if len(word) > LONG_WORD)
    return long > GLUED_SHARE * sum(map(len, words))


def spaced(data: bytes) -> str:
    """The text of the PDF's pages by PDFium, which sees a space where a reader does."""
    document = pypdfium2.PdfDocument(data)
    try:
        pages = (page.get_textpage().get_text_bounded() for page in document)
        return "\n\n".join(page.replace("\r\n", "\n").strip("\n") for page in pages)
    finally:
        document.close()


def _shape(line: str, page: int) -> str:
    """The line with the page's number, if it has that alone, counted from the first page's."""
    found = _DIGITS.findall(line)
    if len(found) != 1:
        return line.strip()
    return _DIGITS.sub(f"#{int(found[0]) - page}", line).strip()


def _edges(page: list[str]) -> set[int]:
    last = len(page)
    return {*range(min(EDGE_LINES, last)), *range(max(0, last - EDGE_LINES), last)}


def _running(pages: list[list[str]]) -> frozenset[str]:
    counts = Counter(
        shape
        for number, page in enumerate(pages)
        for shape in {_shape(page[i], number) for i in _edges(page)}
        if shape
    )
    least = max(MIN_REPEATS, MIN_SHARE * len(pages))
    return frozenset(shape for shape, count in counts.items() if count >= least)


def _without(page: list[str], number: int, running: frozenset[str]) -> list[str]:
    edges = _edges(page)
    return [
        line for i, line in enumerate(page) if i not in edges or _shape(line, number) not in running
    ]


def _unwrapped(lines: list[str]) -> list[str]:
    joined: list[str] = []
    wrapped = False
    for line in lines:
        if wrapped and line.strip() and not _STARTS.match(line):
            joined[-1] = f"{joined[-1].rstrip()} {line.strip()}"
        else:
            joined.append(line)
        wrapped = len(line) >= FULL_LINE and not _ENDS.search(line) and "|" not in line[:1]
    return joined
