"""grounded-responses: every sentence is supported by a retrieved chunk that it cites.

The judge shares neither model nor code with the pipeline's own verifier, and its error is
measured in each run on planted faults. Chunk texts come from /v1/retrieve, not from the answer.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from conformance import judge
from conformance.corpora import fitz_gov
from conformance.corpora.model import LabelledQuery, sample
from conformance.corpora.prepare import TENANT, prepared
from conformance.errors import CorpusError
from conformance.gate import Context, Fault, Gate, Measurement, Observation, Phase, ProbeError
from conformance.gates.intelligence import _answers
from conformance.gates.intelligence._answers import GOLD, LIVE_METRIC, UNANSWERABLE, Answer, Answers
from conformance.judge import Judge, planted
from conformance.judge.pairs import Document, split_of
from conformance.probes.live import window_gap
from conformance.stats import exactly, share
from conformance.targets import answer_faults as faults


@dataclass(frozen=True, slots=True)
class JudgedSentence:
    """A sentence with the chunks it cites, those among them that were retrieved, and the verdict."""

    text: str
    cited: tuple[str, ...]
    retrieved: tuple[str, ...]
    supported: bool


def judged(sentence: Mapping[str, Any], chunks: Mapping[str, str], by: Judge) -> JudgedSentence:
    """Supported when one cited chunk supports it and every cited chunk was retrieved."""
    text = str(sentence.get("text", ""))
    cited = tuple(sentence.get("citations") or ())
    retrieved = tuple(name for name in cited if name in chunks)
    real = bool(cited) and retrieved == cited
    supported = real and by.supported(text, [chunks[name] for name in retrieved])
    return JudgedSentence(text, cited, retrieved, supported)


def measure(context: Context) -> Observation:
    """Share of answers whose every sentence is supported, and of declined unanswerable ones."""
    answers = _answers.answers(context)
    told = [answer for answer in answers.of(GOLD) if answer.answered]
    unanswerable = answers.of(UNANSWERABLE)  # a failed request is not a declined one
    by, rows = _load(), []
    with context.target.gateway(TENANT) as client:
        for number, answer in enumerate(told, 1):
            rows.append(_row(answer, retrieved_chunks(client, answer.query), by))
            context.progress(number, len(told), "judging")
    context.evidence.write("sentences.jsonl", rows)
    metrics = {
        "grounded_share": share(sum(row["grounded"] for row in rows), len(rows)),
        "declined_share": share(sum(a.declined for a in unanswerable), len(unanswerable)),
        **_live(answers),
        **judge_metrics(context, by),
    }
    unknown = sum(s["cited"] != s["retrieved"] for row in rows for s in row["sentences"])
    sentences = sum(len(row["sentences"]) for row in rows)
    return Observation(
        metrics,
        notes=[
            f"{sentences} sentences in {len(rows)} answers, {unknown} cite a chunk not retrieved",
        ],
    )


def _load() -> Judge:
    try:
        return judge.load()
    except judge.JudgeError as error:
        raise ProbeError(str(error)) from error


def retrieved_chunks(client: httpx.Client, query: LabelledQuery) -> dict[str, str]:
    """The chunks retrieved for a question, as text with title and headings."""

    def send() -> tuple[httpx.Response, float]:
        return client.post("/v1/retrieve", json={"query": query.text}), 0.0

    response, _ = _answers.within_rate(send)
    if response.status_code != httpx.codes.OK:
        raise ProbeError(f"/v1/retrieve {response.status_code}: {response.text[:200]}")
    return {r["chunk_id"]: source_text(r) for r in response.json()["results"]}


def source_text(result: Mapping[str, Any]) -> str:
    """What a reader of the citation sees: title, headings, text."""
    headings = result.get("heading_path") or ()
    parts = [result.get("title") or "", *([headings] if isinstance(headings, str) else headings)]
    head = ". ".join(dict.fromkeys(part for part in parts if part))
    return f"{head}. {result['text']}" if head else str(result["text"])


def _row(answer: Answer, chunks: Mapping[str, str], by: Judge) -> dict[str, Any]:
    found = [judged(s, chunks, by) for s in answer.body.get("sentences", [])]
    return {
        "query_id": answer.query.id,
        "question": answer.query.text,
        "grounded": bool(found) and all(s.supported for s in found) and _says_only(answer, found),
        "sentences": [
            {"text": s.text, "cited": s.cited, "retrieved": s.retrieved, "supported": s.supported}
            for s in found
        ],
        "chunks": {name: chunks[name] for s in found for name in s.retrieved},
    }


def _says_only(answer: Answer, sentences: Sequence[JudgedSentence]) -> bool:
    """Whether the text that the caller reads is the judged sentences and nothing else."""
    judged_words = " ".join(s.text for s in sentences).split()
    return str(answer.body.get("answer", "")).split() == judged_words


def _live(answers: Answers) -> dict[str, Measurement]:
    """The exported ratio right after the sample, and how far it is from what callers were told."""
    told = [cites(answer) for answer in answers.answers if answer.generated]
    gap = window_gap(answers.before, answers.live, LIVE_METRIC, told)
    return {"live_ratio": exactly(answers.live[LIVE_METRIC], gap.n), "live_gap": gap}


def cites(answer: Answer) -> float:
    """1 when every sentence that the caller got cites a chunk of the answer, as the metric counts."""
    known = {c["chunk_id"] for c in answer.body.get("citations", ())}
    cited = [set(s.get("citations") or ()) for s in answer.body.get("sentences", ())]
    return float(answer.answered and bool(cited) and all(c and c <= known for c in cited))


def _documents(context: Context) -> list[Document]:
    found = prepared(context).full.corpus.documents
    return [Document(d.id, d.title, d.text) for d in found]


def judge_metrics(context: Context, by: Judge) -> dict[str, Measurement]:
    """The judge's accuracy on faults planted in documents it was not trained on."""
    unseen = [d for d in _documents(context) if split_of(d.id) == "test"]
    size, seed = int(context.parameter("judge_documents")), int(context.parameter("seed"))
    chosen = sample(unseen, size, seed, "judge")
    if not chosen:
        raise ProbeError("no documents to test the judge on")
    table = planted.report(by, chosen, seed)
    named = {f"judge_accuracy_{kind}": measured for kind, measured in table.items()}
    return named | {
        "judge_error": planted.balanced_error(table),
        "judge_false_accept": planted.false_accept(table),
        **_hand_labelled(by),
    }


def _hand_labelled(by: Judge) -> dict[str, Measurement]:
    """The judge's error on sentences written by hand about the built-in corpus, whatever is judged."""
    try:
        documents = [Document(d.id, d.title, d.text) for d in fitz_gov.documents()]
    except CorpusError as error:
        raise ProbeError(str(error)) from error
    pairs = planted.labelled_pairs(documents)
    accepted = [by.supports(p.claim, p.source) for p in pairs]
    wrong = sum(a != p.supported for a, p in zip(accepted, pairs, strict=True))
    false = [a for a, p in zip(accepted, pairs, strict=True) if not p.supported]
    return {
        "judge_error_hand_labelled": share(wrong, len(pairs)),
        "judge_false_accept_hand_labelled": share(sum(false), len(false)),
    }


@contextmanager
def _stripped(context: Context) -> Iterator[None]:
    with faults.answers_changed(context.target, "retrieval", faults.without_citations):
        yield


@contextmanager
def _misquoted(context: Context) -> Iterator[None]:
    with faults.answers_changed(context.target, "retrieval", faults.other_numbers):
        yield


GATE = Gate(
    id="grounded-responses",
    phase=Phase.INTELLIGENCE,
    title="Answers rest on the chunks they cite",
    promise="rag_grounded_response_ratio > 0.90",
    measure=measure,
    faults=(
        Fault("citations are stripped on the way to the caller", _stripped),
        Fault("a number in each answer is another than in the source", _misquoted),
    ),
)
