import json

import pytest

from rag_retrieval.answer.drafts import Draft, DraftReader

WHOLE = json.dumps(
    {
        "answer": [
            {"sources": ["S1"], "text": "Labour is covered for 12 months."},
            {"sources": ["S2", "S3"], "text": 'They said "yes". It costs $5.50.'},
        ]
    }
)
EXPECTED = [
    Draft("Labour is covered for 12 months.", ("S1",)),
    Draft('They said "yes".', ("S2", "S3")),
    Draft("It costs $5.50.", ("S2", "S3")),
]


def read(pieces):
    reader = DraftReader()
    early = [draft for piece in pieces for draft in reader.feed(piece)]
    return early, early + list(reader.finish())


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_reads_the_stream_in_pieces_of_any_size(size):
    pieces = [WHOLE[i : i + size] for i in range(0, len(WHOLE), size)]
    early, all_drafts = read(pieces)
    assert all_drafts == EXPECTED
    assert early == EXPECTED, "complete sentences are given before the stream ends"


@pytest.mark.parametrize("cut", range(1, len(WHOLE)))
def test_whatever_the_cut_every_sentence_given_is_whole_and_cited(cut):
    _, drafts = read([WHOLE[:cut]])
    assert drafts == EXPECTED[: len(drafts)]
    assert all(draft.labels for draft in drafts)


def test_a_sentence_is_given_as_soon_as_its_text_is_closed():
    reader = DraftReader()
    start = '{"answer":[{"sources":["S1"],"text":"One. '
    assert list(reader.feed(start)) == []
    assert list(reader.feed('Two."')) == [Draft("One.", ("S1",)), Draft("Two.", ("S1",))]


def test_a_cut_text_keeps_its_finished_sentences_only():
    _, drafts = read(['{"answer":[{"sources":["S1"],"text":"The first is whole. The second is'])
    assert drafts == [Draft("The first is whole.", ("S1",))]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"answer"',
        '{"answer":[]}',
        '{"answer":[{}]}',
        '{"answer":["text"]}',
        '{"answer":[{"sources":["S1"],"text":5}]}',
        '{"answer":{"text":"no list."}}',
        '{"other":[{"sources":["S1"],"text":"Wrong key."}]}',
        "[1, 2]",
        '{"answer":[{"sources":["S1"] "text":"broken"}]}',
    ],
)
def test_malformed_output_gives_nothing(text):
    assert read([text])[1] == []


def test_well_formed_tells_an_empty_answer_from_nonsense():
    for text, expected in (('{"answer":[]}', True), ('{"answer":[', True), ("nonsense", False)):
        reader = DraftReader()
        list(reader.feed(text))
        assert reader.well_formed is expected


def test_prose_with_labels_in_brackets_is_read_too():
    _, drafts = read(["Labour is covered for 12 months [S2]. It is free [S1], [S3]. And"])
    assert drafts == [
        Draft("Labour is covered for 12 months.", ("S2",)),
        Draft("It is free.", ("S1", "S3")),
    ]


def test_a_fenced_answer_is_read():
    _, drafts = read([f"```json\n{WHOLE}\n```"])
    assert drafts == EXPECTED


def test_labels_inside_the_text_become_citations():
    _, drafts = read(['{"answer":[{"source":"S1","text":"It is 5 [S2]."}]}'])
    assert drafts == [Draft("It is 5.", ("S1", "S2"))]
