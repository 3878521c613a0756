"""One sample of answers through the gateway, shared by the gates that judge answers."""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx

from conformance.corpora.gold import forbidden
from conformance.corpora.gold.forbidden import ForbiddenClaims
from conformance.corpora.model import LabelledCorpus, LabelledQuery
from conformance.corpora.model import sample as draw
from conformance.corpora.prepare import TENANT, prepared
from conformance.errors import CorpusError
from conformance.gate import Context, ProbeError

SAMPLE = "answers"
TIMEOUT_SECONDS = 120.0
LIVE_METRIC = "rag_grounded_response_ratio"
GOLD, UNANSWERABLE, TRAP = "gold", "unanswerable", "trap"
BEFORE_THE_MODEL = ("not_answerable", "no_sources")
_BUSY_TRIES, _BUSY_SECONDS = 20, 2.0
# A question may be declined before the model is asked: then the next one wakes it.
WAKING_TRIES = 20


@dataclass(frozen=True, slots=True)
class Answer:
    """One request: what was asked, what came back, wall seconds; a failed one is data."""

    query: LabelledQuery
    group: str
    status_code: int
    seconds: float
    body: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def answered(self) -> bool:
        """Whether the caller got an answer with text."""
        return self.body.get("status") == "answered" and bool(self.text.strip())

    @property
    def declined(self) -> bool:
        """Whether the caller was told that there is no answer."""
        return self.body.get("status") == "declined"

    @property
    def generated(self) -> bool:
        """Whether the model was asked: the others were declined before, and at once."""
        return not self.failed and self.body.get("decline_reason") not in BEFORE_THE_MODEL

    @property
    def failed(self) -> bool:
        """Whether the caller got neither."""
        return not (self.answered or self.declined)

    @property
    def text(self) -> str:
        """The answer's text."""
        return str(self.body.get("answer") or "")

    def row(self) -> dict[str, Any]:
        """The evidence line."""
        return {
            "query_id": self.query.id,
            "group": self.group,
            "question": self.query.text,
            "status_code": self.status_code,
            "seconds": round(self.seconds, 4),
            "error": self.error,
            "body": self.body,
        }


@dataclass(frozen=True, slots=True)
class Answers:
    """The shared sample, the live metrics right before and after it, and what must not be claimed."""

    answers: Sequence[Answer]
    before: Mapping[str, float]
    live: Mapping[str, float]
    claims: Mapping[str, ForbiddenClaims]

    def of(self, group: str) -> list[Answer]:
        """The answers of one group; raises `ProbeError` when it is empty."""
        if found := [a for a in self.answers if a.group == group]:
            return found
        raise ProbeError(f"the corpus has no {group} questions")


def answers(context: Context) -> Answers:
    """The sample, taken once a run."""
    result: Answers = context.shared(SAMPLE, collect)
    return result


def collect(context: Context) -> Answers:
    """Ask gold, unanswerable and trap questions, `clients` at a time."""
    corpus = prepared(context).full.corpus
    claims = forbidden_claims(corpus)
    questions = _questions(context, corpus, claims)
    _wake(context, corpus, {query.id for query, _ in questions})
    before = context.target.metrics("retrieval")
    taken = ask_all(context, questions)
    live = context.target.metrics("retrieval")
    context.evidence.write("answers.jsonl", (answer.row() for answer in taken))
    context.evidence.write("metrics.json", dict(live))
    return Answers(taken, before, live, claims)


def forbidden_claims(corpus: LabelledCorpus) -> dict[str, ForbiddenClaims]:
    """The corpus' own patterns, and the built-in ones for the built-in corpus."""
    try:
        claims = forbidden.load() if corpus.name == "fitz-gov" else {}
        own = {q.id: q.forbidden_claims for q in corpus.queries if q.forbidden_claims}
        return {i: ForbiddenClaims(forbidden.compiled(p)) for i, p in own.items()} | claims
    except CorpusError as error:
        raise ProbeError(str(error)) from error


def _questions(
    context: Context, corpus: LabelledCorpus, claims: Mapping[str, ForbiddenClaims]
) -> list[tuple[LabelledQuery, str]]:
    traps = [q for q in corpus.queries if q.id in claims]
    groups = ((GOLD, corpus.gold), (UNANSWERABLE, corpus.unanswerable), (TRAP, traps))
    names = {GOLD: "answerable", UNANSWERABLE: "unanswerable", TRAP: "traps"}
    seed = int(context.parameter("seed"))
    return [
        (query, group)
        for group, population in groups
        for query in draw(population, int(context.parameter(names[group])), seed, group)
    ]


def _wake(context: Context, corpus: LabelledCorpus, sampled: Collection[str]) -> None:
    """Ask until the model was asked: how long one that sleeps takes is `llm-scale-to-zero`'s to judge."""
    others = [query for query in corpus.gold if query.id not in sampled] or corpus.gold
    with context.target.gateway(TENANT, timeout=TIMEOUT_SECONDS) as client:
        for query in others[:WAKING_TRIES]:
            asked = ask(client, query, GOLD)
            if asked.failed or asked.generated:
                return


def ask_all(context: Context, questions: Sequence[tuple[LabelledQuery, str]]) -> list[Answer]:
    """Every question through the gateway, in order; raises `ProbeError` when it is unreachable."""
    done, lock = 0, threading.Lock()
    with context.target.gateway(TENANT, timeout=TIMEOUT_SECONDS) as client:

        def work(item: tuple[LabelledQuery, str]) -> Answer:
            nonlocal done
            answer = ask(client, *item)
            with lock:
                done += 1
                context.progress(done, len(questions), "answers")
            return answer

        with ThreadPoolExecutor(int(context.parameter("clients"))) as pool:
            return list(pool.map(work, questions))


def ask(client: httpx.Client, query: LabelledQuery, group: str) -> Answer:
    """One question; the time excludes what the rate limit made it wait."""
    try:
        response, seconds = within_rate(lambda: post(client, query.text))
    except httpx.ConnectError as error:
        raise ProbeError(f"the gateway cannot be reached: {error}") from error
    except httpx.HTTPError as error:
        return Answer(query, group, 0, TIMEOUT_SECONDS, error=f"{type(error).__name__}: {error}")
    if response.status_code in (401, 404):
        raise ProbeError(f"/v1/answer {response.status_code}: {response.text[:200]}")
    if response.status_code != httpx.codes.OK:
        return Answer(query, group, response.status_code, seconds, error=response.text[:500])
    try:
        return Answer(query, group, response.status_code, seconds, response.json())
    except ValueError as error:
        return Answer(query, group, response.status_code, seconds, error=f"not JSON: {error}")


def post(client: httpx.Client, question: str) -> tuple[httpx.Response, float]:
    """The response to a question, and its wall seconds."""
    start = time.perf_counter()
    response = client.post("/v1/answer", json={"question": question})
    return response, time.perf_counter() - start


def within_rate(
    send: Callable[[], tuple[httpx.Response, float]],
) -> tuple[httpx.Response, float]:
    """Send again after a 429, as a well-behaved client does; raises `ProbeError` when it lasts."""
    for _ in range(_BUSY_TRIES):
        response, seconds = send()
        if response.status_code != httpx.codes.TOO_MANY_REQUESTS:
            return response, seconds
        wait = response.headers.get("retry-after", "")
        time.sleep(float(wait) if wait.isdigit() else _BUSY_SECONDS)
    raise ProbeError(f"the gateway limited the rate {_BUSY_TRIES} times in a row")
