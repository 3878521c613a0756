"""A document's text to chunks that fit the embedder, with offsets, headings and a title."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import cast

from semchunk.semchunk import chunkerify
from tokenizers import Tokenizer

from rag_ingestion.convert import Converted
from rag_ingestion.structure import Outline, Section, Span, outline, plain
from rag_store.base import Chunk, indexed_text

_TITLE_TOKENS = 32
_PATH_TOKENS = 40
_CHARS_PER_TOKEN = 40
_WORDS = 200_000
_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class ChunkSettings:
    """How to cut: tokens of the tokenizer in `tokenizer_file`; `max_tokens` is the embedder's."""

    tokenizer_file: str
    chunk_tokens: int
    overlap: float
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Chunked:
    """A document's title and chunks."""

    title: str
    chunks: tuple[Chunk, ...]


def chunk_document(key: str, document: Converted, settings: ChunkSettings) -> Chunked:
    """The chunks of a converted document, in the order of its text; never none of text."""
    parts = outline(document.text) if document.markdown else plain(document.text)
    chunker = _chunker(settings)
    title = chunker.fit(_title(key, document, parts), _TITLE_TOKENS)
    pieces = _pieces(chunker, document.text, parts, title)
    chunks = (
        Chunk(
            chunk_id=f"{key}#{ordinal}",
            doc_id=key,
            ordinal=ordinal,
            text=document.text[span.start : span.end],
            heading_path=path,
            start=span.start,
            end=span.end,
            token_count=chunker.count(document.text[span.start : span.end]),
        )
        for ordinal, (path, span) in enumerate(pieces)
    )
    return Chunked(title, tuple(chunks))


def _title(key: str, document: Converted, parts: Outline) -> str:
    """Front matter or first heading, else the file's own title, else its name."""
    own = (parts.title if document.headed else None) or document.title
    return own or re.sub(r"[-_\s]+", " ", PurePosixPath(key).stem)


def _pieces(
    chunker: "Chunker", text: str, parts: Outline, title: str
) -> list[tuple[tuple[str, ...], Span]]:
    pieces = []
    for section, following in zip(parts.sections, [*parts.sections[1:], None], strict=True):
        path = chunker.path(section.path, title)
        pieces += [(path, span) for span in chunker.split(text, section, title, path)]
        if _is_leaf_without_body(text, section, following):
            pieces += [(path[:-1], _trim(text, section.heading or section.body))]
    return pieces


def _is_leaf_without_body(text: str, section: Section, following: Section | None) -> bool:
    """A heading that nothing stands under is the only place of what it says."""
    if section.heading is None or text[section.body.start : section.body.end].strip():
        return False
    return following is None or len(following.path) <= len(section.path)


def _trim(text: str, span: Span) -> Span:
    part = text[span.start : span.end]
    start = span.start + len(part) - len(part.lstrip())
    return Span(start, max(start, span.start + len(part.rstrip())), span.table)


class _Words(dict[str, int]):
    """Tokens by word, remembered."""

    def __init__(self, count: Callable[[str], int]) -> None:
        super().__init__()
        self.tokens = count

    def __missing__(self, word: str) -> int:
        tokens = self.tokens(word)
        if len(word) <= _CHARS_PER_TOKEN:
            if len(self) >= _WORDS:
                self.clear()
            self[word] = tokens
        return tokens


@lru_cache(maxsize=4)
def _chunker(settings: ChunkSettings) -> "Chunker":
    return Chunker(settings)


class Chunker:
    """Splits sections by semchunk under one tokenizer's counts."""

    def __init__(self, settings: ChunkSettings) -> None:
        self.settings = settings
        self.tokenizer = Tokenizer.from_file(settings.tokenizer_file)
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.words = _Words(self.count)
        self.special_tokens = self.tokenizer.num_special_tokens_to_add(is_pair=False)

    def count(self, text: str) -> int:
        """Tokens of `text`, the special ones not among them."""
        return len(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def measure(self, text: str) -> int:
        """Tokens word by word, ten times as fast as `count` and the same but for odd tokenizers.

        Never fewer than the characters allow: a tokenizer may take any word for one unknown token.
        """
        return max(sum(map(self.words.__getitem__, text.split())), len(text) // _CHARS_PER_TOKEN)

    def fit(self, text: str, tokens: int) -> str:
        """`text` on one line, cut after `tokens` tokens."""
        text = " ".join(text.split())[: tokens * _CHARS_PER_TOKEN]
        offsets = self.tokenizer.encode(text, add_special_tokens=False).offsets
        return text if len(offsets) <= tokens else text[: offsets[tokens - 1][1]].rstrip()

    def path(self, headings: tuple[str, ...], title: str) -> tuple[str, ...]:
        """The heading path without the title again; the innermost headings are kept when long."""
        kept: list[str] = []
        room = _PATH_TOKENS
        own = headings[1:] if headings and headings[0].startswith(title) else headings
        for heading in reversed(own):
            short = self.fit(heading, max(1, room - 1))
            room -= self.count(short) + 1
            if room < 0:
                break
            kept.insert(0, short)
        return tuple(kept)

    def split(self, text: str, section: Section, title: str, path: tuple[str, ...]) -> list[Span]:
        """Spans whose indexed text fits the embedder; tables whole where they fit."""
        if not text[section.body.start : section.body.end].strip():
            return []
        size = self._size(title, path)
        while True:
            spans = self._spans(text, section, size)
            excess = max(self._indexed(text, span, title, path) for span in spans)
            if excess <= self.settings.max_tokens or size <= 1:
                return spans
            size = max(1, size - (excess - self.settings.max_tokens))

    def _size(self, title: str, path: tuple[str, ...]) -> int:
        prefix = self.count(f"{title}\n{' > '.join(path)}\n") + self.special_tokens
        return max(1, min(self.settings.chunk_tokens, self.settings.max_tokens - prefix))

    def _indexed(self, text: str, span: Span, title: str, path: tuple[str, ...]) -> int:
        chunk = Chunk("", "", 0, text[span.start : span.end], path, span.start, span.end, 0)
        return self.count(indexed_text(title, chunk)) + self.special_tokens

    def _spans(self, text: str, section: Section, size: int) -> list[Span]:
        whole = _trim(text, section.body)
        if self._fits(text, whole, size):
            return [whole]
        overlap = int(size * self.settings.overlap)
        spans: list[Span] = []
        for block in _blocks(section):
            for span in self._split_block(text, block, size, overlap):
                self._append(text, spans, span, size)
        return spans

    def _append(self, text: str, spans: list[Span], span: Span, size: int) -> None:
        """Add the span, joined to the one before when a table and its neighbour fit together."""
        if spans and (span.table or spans[-1].table):
            joined = Span(spans[-1].start, span.end, span.table)
            if self._fits(text, joined, size):
                spans[-1] = joined
                return
        spans.append(span)

    def _split_block(self, text: str, block: Span, size: int, overlap: int) -> list[Span]:
        trimmed = _trim(text, block)
        if trimmed.start == trimmed.end:
            return []
        if self._fits(text, trimmed, size):
            return [trimmed]
        part = text[trimmed.start : trimmed.end]
        room = max(1, size - overlap)
        chunker = chunkerify(self.measure, room, max_token_chars=_CHARS_PER_TOKEN, memoize=False)
        offsets = cast("list[tuple[int, int]]", chunker(part, offsets=True)[1])
        spans = [Span(trimmed.start + a, trimmed.start + b, block.table) for a, b in offsets]
        back = [self._back(text, s, trimmed.start, overlap) for s in spans[1:]]
        return [_trim(text, span) for span in [*spans[:1], *back]]

    def _back(self, text: str, span: Span, floor: int, overlap: int) -> Span:
        """The span begun up to `overlap` tokens earlier, at the start of a word."""
        start = max(floor, span.start - overlap * _CHARS_PER_TOKEN)
        begin = span.start
        for word in reversed(list(_WORD.finditer(text, start, span.start))):
            overlap -= self.words[word[0]]
            if overlap < 0 or (word.start() == start > floor):
                break
            begin = word.start()
        return Span(begin, span.end, span.table)

    def _fits(self, text: str, span: Span, size: int) -> bool:
        if span.end - span.start > size * _CHARS_PER_TOKEN:
            return False
        return self.measure(text[span.start : span.end]) <= size


def _blocks(section: Section) -> list[Span]:
    """The section's body as alternating prose and tables."""
    blocks: list[Span] = []
    at = section.body.start
    for table in section.tables:
        blocks += [Span(at, table.start), table]
        at = table.end
    return [*blocks, Span(at, section.body.end)]
