"""The structure of a Markdown text: front matter, sections under headings, tables."""

import re
from dataclasses import dataclass
from typing import Any

import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_PARSER = MarkdownIt("commonmark").enable("table")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range of characters; `table` when it is one table."""

    start: int
    end: int
    table: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """The text under one heading up to the next; `heading` is the heading's own line."""

    path: tuple[str, ...]
    body: Span
    heading: Span | None = None
    tables: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Outline:
    """A text's title (front matter, else its first heading) and its sections in order."""

    title: str | None
    sections: tuple[Section, ...]


def outline(text: str) -> Outline:
    """The outline of a Markdown text; character offsets are those of `text`."""
    front, offset = _front_matter(text)
    tokens = _PARSER.parse(text[offset:])
    lines = _line_starts(text, offset)
    headings = [_heading(tokens, i) for i, t in enumerate(tokens) if _is_heading(t)]
    tables = [_span(t, lines, table=True) for t in tokens if t.type == "table_open"]
    sections = _sections(headings, tables, lines, Span(offset, len(text)))
    title = _own_title(front) or next((name for _, name, _ in headings), None)
    return Outline(title or None, tuple(sections))


def plain(text: str) -> Outline:
    """The outline of a text without markup: one section."""
    return Outline(None, (Section((), Span(0, len(text))),))


def _front_matter(text: str) -> tuple[dict[str, Any], int]:
    match = _FRONT_MATTER.match(text)
    if not match:
        return {}, 0
    try:
        data = yaml.safe_load(match[1])
    except MemoryError:
        raise
    except Exception:  # PyYAML lets ValueError (a date), RecursionError and others through
        return {}, 0
    return (data, match.end()) if isinstance(data, dict) else ({}, 0)


def _own_title(front: dict[str, Any]) -> str | None:
    """A title that is a string (an alias bomb is none), without what UTF-8 and stores cannot hold."""
    title = front.get("title")
    if not isinstance(title, str):
        return None
    return title.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _line_starts(text: str, offset: int) -> list[int]:
    starts = [offset]
    starts += [match.end() for match in re.compile("\n").finditer(text, offset)]
    return [*starts, len(text)]


def _is_heading(token: Token) -> bool:
    return token.type == "heading_open" and token.level == 0


def _heading(tokens: list[Token], index: int) -> tuple[int, str, Token]:
    inline = tokens[index + 1]
    name = "".join(child.content for child in inline.children or ()) or inline.content
    return int(tokens[index].tag[1]), " ".join(_COMMENT.sub("", name).split()), tokens[index]


def _span(token: Token, lines: list[int], *, table: bool = False) -> Span:
    assert token.map is not None
    first, after = token.map
    return Span(lines[first], lines[min(after, len(lines) - 1)], table)


def _sections(
    headings: list[tuple[int, str, Token]], tables: list[Span], lines: list[int], whole: Span
) -> list[Section]:
    marks = [_span(token, lines) for _, _, token in headings]
    ends = [mark.start for mark in marks] + [whole.end]
    sections = [_section((), None, Span(whole.start, ends[0]), tables)]
    stack: list[tuple[int, str]] = []
    for (level, name, _), mark, end in zip(headings, marks, ends[1:], strict=True):
        stack = [*(entry for entry in stack if entry[0] < level), (level, name)]
        path = tuple(name for _, name in stack if name)
        sections.append(_section(path, mark, Span(mark.end, end), tables))
    return sections


def _section(
    path: tuple[str, ...], heading: Span | None, body: Span, tables: list[Span]
) -> Section:
    inside = tuple(t for t in tables if body.start <= t.start and t.end <= body.end)
    return Section(path, body, heading, inside)
