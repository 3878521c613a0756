"""answer-latency: P95 of /v1/answer, end to end through the gateway."""

from collections.abc import Iterator
from contextlib import contextmanager

from conformance.gate import Context, Fault, Gate, Observation, Phase, Plot
from conformance.gates.intelligence import _answers
from conformance.gates.intelligence._answers import GOLD, TIMEOUT_SECONDS, Answer
from conformance.probes.live import latency_gap
from conformance.stats import percentile
from conformance.targets.proxy import slowed
from conformance.targets.reconfigured import reconfigured

LIVE_METRIC = "rag_answer_latency_seconds"
EVERY = 4  # one stalled answer in four is a tail that P95 must see


def _seconds(answer: Answer) -> float:
    """A failed request counts as the client's timeout: failing fast must not look fast."""
    return TIMEOUT_SECONDS if answer.failed else answer.seconds


def measure(context: Context) -> Observation:
    """Wall seconds of answerable questions; those declined before the model was asked are left out."""
    sample = _answers.answers(context)
    asked = sample.of(GOLD)
    told = [answer for answer in asked if answer.failed or answer.generated]
    served = [answer.seconds for answer in sample.answers if not answer.failed]
    seconds = sorted(map(_seconds, told))
    steps = [(s, (i + 1) / len(seconds)) for i, s in enumerate(seconds)]
    context.evidence.write("latency.jsonl", [{"seconds": s} for s in seconds])
    return Observation(
        {
            "p95": percentile(seconds, 0.95),
            "p50": percentile(seconds, 0.5),
            "live_gap": latency_gap(sample.before, sample.live, LIVE_METRIC, served or [0.0]),
        },
        notes=[
            f"{len(asked)} questions, {len(asked) - len(told)} declined at once (not timed), "
            f"{sum(a.failed for a in asked)} failed (timed as {TIMEOUT_SECONDS:g} s)"
        ],
        plots=[Plot("Answer latency", "seconds", "share of answers", {"gateway": steps}, "step")],
    )


@contextmanager
def _slow_model(context: Context) -> Iterator[None]:
    delay = float(context.parameter("fault_delay"))
    with (
        slowed(context.target, "llm", seconds=delay, every=EVERY) as url,
        reconfigured(context.target, "retrieval", LLM_URL=url),
    ):
        yield


GATE = Gate(
    id="answer-latency",
    phase=Phase.INTELLIGENCE,
    title="Answers arrive in time (P95, end to end)",
    promise="End-to-end RAG latency <3s P95",
    measure=measure,
    faults=(Fault("the LLM answers every fourth request late", _slow_model),),
)
