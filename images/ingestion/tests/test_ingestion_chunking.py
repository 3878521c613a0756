"""Chunks fit, keep their offsets and know where they stand."""

import random
from itertools import pairwise

import pytest

from rag_ingestion.chunking import Chunked, Chunker, ChunkSettings, chunk_document
from rag_ingestion.convert import Converted
from rag_ingestion.structure import outline
from rag_store.base import indexed_text


@pytest.fixture
def cut(tokenizer_file):
    def run(text: str, *, tokens: int = 50, overlap: float = 0.1, key: str = "a.md") -> Chunked:
        settings = ChunkSettings(tokenizer_file, tokens, overlap, 256)
        made = chunk_document(key, Converted(text, markdown=key.endswith(".md")), settings)
        chunker = Chunker(settings)
        for ordinal, chunk in enumerate(made.chunks):
            assert text[chunk.start : chunk.end] == chunk.text
            assert chunk.text.strip() == chunk.text != ""
            assert chunk.chunk_id == f"{key}#{ordinal}"
            assert chunk.token_count == chunker.count(chunk.text)
            assert chunker.count(indexed_text(made.title, chunk)) + 2 <= 256
        return made

    return run


def table(rows: int) -> str:
    return "| a | b |\n|---|---|\n" + "".join(f"| x{i} | y{i} |\n" for i in range(rows))


def test_headings_cut_and_are_kept(cut):
    made = cut(
        "# Doc\n\nintro\n\n## Part *one*\n\nfirst\n\n### Deep\n\ndeep\n\nTwo\n---\n\nsecond\n"
    )
    assert made.title == "Doc"
    assert [(c.heading_path, c.text) for c in made.chunks] == [
        ((), "intro"),
        (("Part one",), "first"),
        (("Part one", "Deep"), "deep"),
        (("Two",), "second"),
    ]


def test_fenced_code_has_no_headings(cut):
    made = cut("# Doc\n\n```sh\n# a comment\n```\n\n    # indented\n")
    assert len(made.chunks) == 1
    assert "# a comment" in made.chunks[0].text


def test_plain_text_has_no_headings(cut):
    made = cut("# not a heading\n\nwords", key="my-notes_2026.txt")
    assert made.title == "my notes 2026"
    assert made.chunks[0].text == "# not a heading\n\nwords"


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("---\ntitle: From the front\n---\n# Heading\n\nx", "From the front"),
        ("---\nowner: me\n---\n# Heading\n\nx", "Heading"),
        ("---\n: : [\n---\n# Heading\n\nx", ": : ["),
        ("no heading", "a"),
        ("---\ntitle: 7\n---\nx", "a"),
    ],
)
def test_title(cut, text, title):
    assert cut(text).title == title


def test_front_matter_is_not_indexed(cut):
    assert [c.text for c in cut("---\ntitle: T\nsecret: s\n---\nbody").chunks] == ["body"]


def test_a_heading_alone_is_not_lost(cut):
    made = cut("# Doc\n\n## Closed on Fridays\n\n## Other\n\ntext\n\n## Last")
    assert [c.text for c in made.chunks] == ["## Closed on Fridays", "text", "## Last"]


def test_a_document_of_one_heading(cut):
    assert [c.text for c in cut("# Only this").chunks] == ["# Only this"]


def test_tables_stay_whole(cut):
    prose = "Word soup. " * 30
    made = cut(f"# D\n\n{prose}\n\n{table(5)}\n\n{prose}\n")
    assert sum("| x0 | y0 |" in c.text and "| x4 | y4 |" in c.text for c in made.chunks) == 1


def test_a_long_table_is_cut_between_rows(cut):
    made = cut(f"# D\n\n{table(60)}")
    assert len(made.chunks) > 5
    assert all(c.text.endswith("|") for c in made.chunks)


def test_overlap_repeats_the_end_of_the_chunk_before(cut):
    text = " ".join(f"word{i}" for i in range(300))
    made = cut(text, tokens=100, overlap=0.1).chunks
    shared = [before.end - after.start for before, after in pairwise(made)]
    assert all(40 <= characters <= 90 for characters in shared)
    assert max(c.token_count for c in made) <= 100
    none = cut(text, tokens=100, overlap=0).chunks
    assert all(before.end <= after.start for before, after in pairwise(none))


def test_everything_is_in_some_chunk(cut):
    choose = random.Random(3)
    for _ in range(15):
        parts = [
            choose.choice(("# H", "## H2", "words and more.", "x" * 300, table(4), "- item, item"))
            for _ in range(choose.randrange(1, 30))
        ]
        text = "\n\n".join(parts)
        made = cut(text, tokens=choose.choice((20, 60, 200)))
        covered = {i for c in made.chunks for i in range(c.start, c.end)}
        lost = "".join(ch for i, ch in enumerate(text) if i not in covered)
        assert not set(lost.split()) - {"#", "##", "H", "H2"}


def test_long_titles_and_paths_leave_room(cut):
    text = "".join(f"{'#' * n} {'long heading ' * 60}\n\n" for n in range(1, 7)) + "word " * 400
    made = cut(text, tokens=200)
    assert made.chunks[0].token_count > 100


def test_a_word_without_end(cut):
    made = cut("y" * 20_000, tokens=50)
    assert all(len(c.text) <= 50 * 40 for c in made.chunks)


def test_outline_offsets():
    text = "---\ntitle: T\n---\n# A\nx\n# B\ny"
    sections = outline(text).sections
    assert [text[s.body.start : s.body.end] for s in sections] == ["", "x\n", "y"]
