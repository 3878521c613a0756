"""Labelled corpora: what a malformed line says, what fitz-gov leaves out, how it is ingested."""

import hashlib
import json
from types import SimpleNamespace

import pytest

from conformance.context import EvidenceFolder
from conformance.corpora import files, fitz_gov, model, prepare
from conformance.errors import CorpusError
from conformance.gate import ProbeError

DOCUMENT = {"id": "a", "title": "A", "text": "Alpha."}
QUERY = {"id": "q", "query": "What?", "answerable": True, "relevant": ["a"]}


def corpus_in(folder, documents=(DOCUMENT,), queries=(QUERY,)):
    for name, rows in (("documents.jsonl", documents), ("queries.jsonl", queries)):
        text = "\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows)
        (folder / name).write_text(text + "\n")
    return folder


def test_a_corpus_is_read(tmp_path):
    full = {**QUERY, "answer": "Alpha.", "facts": [["alpha", "a"]], "forbidden_claims": ["beta"]}
    none = {"id": "u", "query": "Who?", "answerable": False, "relevant": []}
    loaded = files.load(
        corpus_in(tmp_path, [DOCUMENT, "", {"id": "b", "text": "Beta."}], [full, none])
    )
    assert [d.doc_id for d in loaded.documents] == ["a.md", "b.md"]
    assert [d.markdown for d in loaded.documents] == ["# A\n\nAlpha.\n", "Beta.\n"]
    assert loaded.gold == loaded.answerable == [loaded.queries[0]]
    assert loaded.unanswerable == [loaded.queries[1]]
    assert loaded.queries[0].relevant_doc_ids == {"a.md"}
    assert loaded.queries[0].facts == (("alpha", "a"),)


@pytest.mark.parametrize(
    ("documents", "queries", "told"),
    [
        (["{"], [QUERY], r"documents\.jsonl:1: not JSON"),
        ([DOCUMENT, {"id": "b", "text": "  "}], [QUERY], r"documents\.jsonl:2: \$\.text"),
        ([{"id": "../a", "text": "x"}], [QUERY], r"documents\.jsonl:1: \$\.id"),
        ([DOCUMENT, DOCUMENT], [QUERY], r"documents\.jsonl:2: id a is also at .*:1"),
        ([{**DOCUMENT, "extra": 1}], [QUERY], "extra"),
        ([], [QUERY], r"documents\.jsonl: the file is empty"),
        ([DOCUMENT], [], r"queries\.jsonl: the file is empty"),
        ([DOCUMENT], [{**QUERY, "relevant": ["z"]}], r"queries\.jsonl:1: relevant: no document z"),
        ([DOCUMENT], [{**QUERY, "relevant": []}], r"queries\.jsonl:1: \$\.relevant"),
        ([DOCUMENT], [{**QUERY, "answerable": False}], r"queries\.jsonl:1"),
        ([DOCUMENT], [{**QUERY, "forbidden_claims": ["("]}], "forbidden_claims"),
        ([DOCUMENT], [{**QUERY, "answer": "x", "facts": [[]]}], r"\$\.facts"),
        ([DOCUMENT], [{**QUERY, "facts": [["x"]]}], "'answer' is a dependency of 'facts'"),
        ([DOCUMENT], [{**QUERY, "answer": "x"}], "'facts' is a dependency of 'answer'"),
        ([DOCUMENT], [{**QUERY, "answer": "x", "facts": []}], r"\$\.facts"),
        ([DOCUMENT], [{**QUERY, "equivalent": {"z": ["a"]}}], "equivalent: z is not in relevant"),
        ([DOCUMENT], [{**QUERY, "equivalent": {"a": ["z"]}}], "equivalent: no document z"),
        (
            [DOCUMENT, {**DOCUMENT, "id": "b"}],
            [QUERY],
            r"documents\.jsonl:2: the same title and text as a: keep one",
        ),
    ],
)
def test_a_malformed_line_is_told(tmp_path, documents, queries, told):
    with pytest.raises(CorpusError, match=told):
        files.load(corpus_in(tmp_path, documents, queries))


def test_what_says_the_same_stands_for_a_relevant_document_once():
    query = model.LabelledQuery("q", "?", True, ("a", "b"), equivalent={"a": ("a2", "a3")})
    found = query.newly_found(["x.md", "a2.md", "a.md", "a3.md", "b.md"])
    assert found == [False, True, False, False, True]
    assert query.newly_found(["a.md", "a2.md"]) == [True, False]
    mutual = model.LabelledQuery("q", "?", True, ("a", "b"), equivalent={"a": ("b",), "b": ("a",)})
    assert mutual.newly_found(["b.md", "a.md"]) == [True, True]
    assert query.newly_found([""]) == [False]


def test_an_own_corpus_names_what_says_the_same(tmp_path):
    documents = [DOCUMENT, {"id": "b", "text": "The letter alpha."}]
    queries = [{**QUERY, "equivalent": {"a": ["b"]}}]
    loaded = files.load(corpus_in(tmp_path, documents, queries))
    assert loaded.queries[0].newly_found(["b.md"]) == [True]


def test_recall_and_the_right_first_result_follow_the_same_rule():
    from conformance.gates.data._queries import Ranked
    from conformance.gates.intelligence.relevance_score import Scored

    query = model.LabelledQuery("q", "?", True, ("a",), equivalent={"a": ("copy",)})
    for first, right in (("a.md", True), ("copy.md", True), ("other.md", False)):
        ranked = Ranked(query, (first,), (), 0.1, {}, 0.5)
        assert Scored(query, 0.5, first).right is right
        assert ranked.recall == ranked.ndcg == float(right)
        assert ranked.labelled_recall == float(first == "a.md")


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(CorpusError, match="No such file"):
        files.load(tmp_path)


def test_samples_are_declared_by_seed_and_purpose():
    population = range(1000)
    assert model.sample(population, 10, 1, "x") == model.sample(population, 10, 1, "x")
    assert model.sample(population, 10, 1, "x") != model.sample(population, 10, 2, "x")
    assert model.sample(population, 10, 1, "x") != model.sample(population, 10, 1, "y")
    assert len(model.sample(range(3), 10, 1, "x")) == 3


def ids(held_out, count, prefix="q"):
    found = (f"{prefix}{n}" for n in range(1000))
    wanted = (
        i for i in found if (int(hashlib.sha256(i.encode()).hexdigest(), 16) % 10 >= 5) is held_out
    )
    return [next(wanted) for _ in range(count)]


@pytest.fixture
def fitz(tmp_path):
    """A data set of fitz-gov's shape with an empty, a contradictory and a repeated document."""
    documents = [
        {"id": "good", "title": "Good", "content": "Good text."},
        {"id": "bare", "content": "No title.", "metadata": {}},
        {"id": "same", "title": "Same", "content": "Same."},
        {"id": "same", "title": "Same", "content": "Same."},
        {"id": "empty", "title": "Empty", "content": " "},
        {"id": "torn", "title": "Torn", "content": "One."},
        {"id": "torn", "title": "Torn", "content": "Another."},
    ]
    asked, both, lost, none, wrong, unsure = ids(True, 6)
    (tuned,) = ids(False, 1)
    mappings = {
        "direct": {
            asked: {"query": "Good?", "relevant_docs": ["good"], "forbidden_claims": ["\\d"]},
            both: {"query": "Both?", "relevant_docs": ["same", "torn", "same"]},
            lost: {"query": "Lost?", "relevant_docs": ["empty", "torn"]},
            tuned: {"query": "Tuned?", "relevant_docs": ["good"]},
            wrong: {"query": "Wrong?", "relevant_docs": ["good"]},
        },
        "abstention": {
            none: {"query": "None?", "relevant_docs": []},
            unsure: {"query": "Unsure?", "relevant_docs": ["good"]},
        },
    }
    cases = [
        {"id": asked, "query": "Good?", "contexts": ["Good, TEXT"]},
        {"id": f"t1_{both}", "query": "Another question of the same id?", "contexts": ["Else."]},
        {"id": none, "query": "None?", "contexts": ["Not an answer."]},
        {"id": f"t1_{wrong}", "query": "wrong", "contexts": ["What really answers it."]},
    ]
    for name, text in (
        ("corpus/documents.jsonl", "\n".join(map(json.dumps, documents))),
        ("queries/query_mappings.json", json.dumps({"mappings": mappings})),
        ("tier1_core/direct.json", json.dumps({"cases": cases})),
    ):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    gold = tmp_path / "gold.jsonl"
    gold.write_text(json.dumps({"query_id": asked, "answer": "Yes.", "facts": [["yes"]]}))
    return SimpleNamespace(folder=tmp_path, gold=gold, asked=asked, both=both, none=none)


def test_fitz_gov_leaves_out_what_cannot_be_labelled(fitz):
    corpus = fitz_gov.read(fitz.folder, fitz.gold)
    assert [d.id for d in corpus.documents] == ["good", "bare", "same"]
    assert {q.id: q.relevant for q in corpus.queries} == {
        fitz.asked: ("good",),
        fitz.both: ("same",),
        fitz.none: (),
    }
    assert [q.id for q in corpus.unanswerable] == [fitz.none]
    assert [(q.answer, q.forbidden_claims) for q in corpus.gold] == [("Yes.", ("\\d",))]


def test_a_gold_answer_to_no_query_is_refused(fitz):
    fitz.gold.write_text(json.dumps({"query_id": "nobody", "answer": "x", "facts": [["x"]]}))
    with pytest.raises(CorpusError, match="no such query: nobody"):
        fitz_gov.read(fitz.folder, fitz.gold)


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="not the fitz-gov data set"):
        fitz_gov.read(tmp_path)


class _Admin:
    def __init__(self, log):
        self.log = log

    async def provision(self, tenant):
        self.log.append(("provision", tenant))

    async def close(self):
        self.log.append(("close",))


class _Context:
    """The parts of a context that `prepared` uses, over a target that only counts files."""

    def __init__(self, folder, corpus_folder, lose=0):
        self.log, self.lose, self.corpus_folder = [], lose, corpus_folder
        self.evidence = EvidenceFolder(folder)
        self.target = self

    def parameter(self, name):
        return {"small_share": 0.5, "documents": 1000, "seed": 1}[name]

    def shared(self, name, make):
        return make(self)

    def progress(self, done, total, what=""):
        pass

    def store_admin(self):
        return _Admin(self.log)

    def ingest(self, folder, tenant):
        count = len(list(folder.glob("*.md"))) - self.lose
        self.log.append(("ingest", tenant, count))
        return {"added": count, "changed": 0, "unchanged": 0, "set_aside": []}


@pytest.fixture
def context(tmp_path, monkeypatch):
    monkeypatch.setenv("RAG_CACHE_DIR", str(tmp_path / "cache"))
    documents = [{"id": f"d{n}", "text": f"Text {n}."} for n in range(4)]
    queries = [
        {"id": f"q{n}", "query": "?", "answerable": True, "relevant": [f"d{n}"]} for n in range(4)
    ]
    (tmp_path / "own").mkdir()
    return _Context(tmp_path / "evidence", corpus_in(tmp_path / "own", documents, queries))


def test_the_corpus_is_provisioned_and_ingested_whole_and_small(context):
    result = prepare.prepared(context)
    assert context.log == [
        ("provision", "conformance-small"),
        ("close",),
        ("ingest", "conformance-small", 2),
        ("provision", "conformance"),
        ("close",),
        ("ingest", "conformance", 4),
    ]
    small = result.small.corpus
    assert {n for q in small.queries for n in q.relevant} == {d.id for d in small.documents}
    again = prepare.prepared(context)
    assert again.full.folder == result.full.folder


def test_a_corpus_that_is_not_wholly_indexed_is_an_error(context):
    context.lose = 1
    with pytest.raises(ProbeError, match="1 of 2 documents indexed"):
        prepare.prepared(context)


def test_a_broken_own_corpus_is_a_probe_error(context, tmp_path):
    context.corpus_folder = tmp_path
    with pytest.raises(ProbeError, match="documents.jsonl"):
        prepare.prepared(context)


def test_a_reduced_corpus_keeps_the_gold_documents_and_every_question_it_can_answer():
    documents = [model.LabelledDocument(str(n), "", f"text {n}") for n in range(100)]
    queries = [
        model.LabelledQuery(f"q{n}", "?", answerable=True, relevant=(str(n),)) for n in range(100)
    ]
    queries[7] = model.LabelledQuery("q7", "?", True, relevant=("7",), facts=(("x",),))
    queries.append(model.LabelledQuery("none", "?", answerable=False))
    corpus = model.LabelledCorpus("c", documents, queries)
    part = prepare.reduced(corpus, 10, 1)
    assert len(part.documents) == 10
    assert len(part.answerable) == 10
    assert [q.id for q in part.gold] == ["q7"]
    assert [q.id for q in part.unanswerable] == ["none"]
    assert prepare.reduced(corpus, 100, 1) is corpus
