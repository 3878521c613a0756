"""answer-correctness: answers state the gold facts, briefly, and claim nothing forbidden."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from conformance.gate import Context, Fault, Gate, Observation, Phase
from conformance.gates.intelligence import _answers
from conformance.gates.intelligence._answers import GOLD, TRAP, Answer, Answers
from conformance.gates.intelligence._scores import fact_recall, token_f1
from conformance.stats import bootstrap_mean, share
from conformance.targets import answer_faults as faults


def measure(context: Context) -> Observation:
    """Facts and brevity over answered gold questions, beside the share that was answered."""
    sample = _answers.answers(context)
    asked = sample.of(GOLD)
    rows = [_row(answer) for answer in asked if answer.answered]
    violations = [_violation(sample, answer) for answer in sample.of(TRAP) if not answer.failed]
    context.evidence.write("gold.jsonl", rows)
    context.evidence.write("forbidden.jsonl", [v for v in violations if v["found"]])
    metrics = {
        "answered_share": share(len(rows), len(asked)),
        "forbidden_claims": share(sum(bool(v["found"]) for v in violations), len(violations)),
    }
    if rows:
        metrics["fact_recall"] = bootstrap_mean([row["fact_recall"] for row in rows])
        metrics["token_f1"] = bootstrap_mean([row["token_f1"] for row in rows])
    return Observation(metrics, notes=[_note(asked)])


def _row(answer: Answer) -> dict[str, Any]:
    return {
        "query_id": answer.query.id,
        "question": answer.query.text,
        "gold": answer.query.answer,
        "answer": answer.text,
        "fact_recall": fact_recall(answer.text, answer.query),
        "token_f1": token_f1(answer.text, answer.query.answer),
    }


def _violation(sample: Answers, answer: Answer) -> dict[str, Any]:
    sources = [str(c.get("text", "")) for c in answer.body.get("citations", [])]
    found = sample.claims[answer.query.id].found(answer.text, sources) if answer.answered else []
    return {"query_id": answer.query.id, "answer": answer.text, "found": found}


def _note(asked: list[Answer]) -> str:
    declined, failed = sum(a.declined for a in asked), sum(a.failed for a in asked)
    return f"{len(asked)} gold questions: {declined} declined, {failed} failed"


@contextmanager
def _copied(context: Context) -> Iterator[None]:
    with faults.language_model(context.target, faults.copy_first_source):
        yield


@contextmanager
def _invented(context: Context) -> Iterator[None]:
    with faults.language_model(context.target, faults.invent):
        yield


GATE = Gate(
    id="answer-correctness",
    phase=Phase.INTELLIGENCE,
    title="Answers are right, brief and claim nothing forbidden",
    promise="answers are correct: gold facts stated, no forbidden claim, most questions answered",
    measure=measure,
    faults=(
        Fault("the LLM copies the first source instead of answering", _copied),
        Fault("the LLM invents its answers", _invented),
    ),
)
