"""Users' traffic in the background, through the gateway, while something is done to the platform."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from conformance.corpora.prepare import TENANT, prepared
from conformance.gate import Context, ProbeError
from conformance.gates.data._queries import flagged, unseen_text
from conformance.probes.load import Load

TIMEOUT_SECONDS = 120.0
Judge = Callable[[Mapping[str, Any]], str]


@contextmanager
def retrievals(
    context: Context,
    *,
    per_second: float,
    clients: int,
    judge: Judge | None = None,
    tenant: str = TENANT,
) -> Iterator[Load]:
    """Inside the block questions that no cache has seen are asked of /v1/retrieve.

    A question that the guard flags has been served. `judge` says what is wrong with an answer.
    """
    within_limit(context, per_second, tenant)
    questions = [query.text for query in prepared(context).full.corpus.answerable]

    def call(number: int) -> str:
        text = unseen_text(questions[number % len(questions)])
        return served(client.post("/v1/retrieve", json={"query": text, "top_n": 5}), judge)

    with (
        context.target.gateway(tenant, timeout=TIMEOUT_SECONDS) as client,
        Load(call, per_second, clients) as load,
    ):
        yield load


@contextmanager
def answers(context: Context, *, per_second: float, clients: int = 1) -> Iterator[Load]:
    """Inside the block the model answers questions of /v1/answer that have a gold answer."""
    questions = gold_questions(context)

    def call(number: int) -> str:
        question = {"question": questions[number % len(questions)]}
        return served(client.post("/v1/answer", json=question))

    with (
        context.target.gateway(TENANT, timeout=TIMEOUT_SECONDS) as client,
        Load(call, per_second, clients) as load,
    ):
        yield load


def within_limit(context: Context, per_second: float, tenant: str = TENANT) -> None:
    """Raises `ProbeError` unless the tenant may ask that often."""
    allowed = context.target.rate_limit(tenant).requests_per_minute
    if per_second * 60 > allowed:
        raise ProbeError(f"tenant {tenant} may ask {allowed:g} a minute: too few for this load")


def gold_questions(context: Context) -> list[str]:
    """Questions that have a gold answer; raises `ProbeError` when there is none."""
    questions = [query.text for query in prepared(context).full.corpus.gold]
    if not questions:
        raise ProbeError("the corpus has no question with a gold answer")
    return questions


def served(response: httpx.Response, judge: Judge | None = None) -> str:
    """'' for an answer (or a question taken for an injection), else what the caller was told."""
    if response.status_code != httpx.codes.OK:
        told = f"{response.status_code}: {response.text[:200]}"
        return "" if flagged(response) else told
    return judge(response.json()) if judge else ""
