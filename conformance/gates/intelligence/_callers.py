"""Callers in the background who know what they should be told: questions asked before, and answers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import httpx

from conformance.corpora.model import sample
from conformance.corpora.prepare import TENANT, prepared
from conformance.gate import Context, ProbeError
from conformance.gates.data._queries import flagged, unseen_text
from conformance.gates.data._traffic import gold_questions, within_limit
from conformance.probes.asked import ANSWER, RETRIEVE, Asking, wrong_answer, wrong_passages
from conformance.probes.load import Load
from conformance.targets import http

QUESTIONS, TOP_N = 30, 5
RETRIEVE_SECONDS, ANSWER_SECONDS = 15.0, 300.0  # beyond the gateway's own limits


@contextmanager
def asking(context: Context, rate: float, answer_rate: float) -> Iterator[Asking]:
    """Inside the block questions are asked at constant rates (per second), the second of the model."""
    corpus, seed = prepared(context).full.corpus, int(context.parameter("seed"))
    within_limit(context, rate)
    gold = gold_questions(context)
    with _client(context) as client:
        questions = [query.text for query in sample(corpus.answerable, QUESTIONS, seed, "kills")]
        known = _known(client, questions)
        asked = Asking(client)

        def retrieve(number: int) -> str:
            text, first = known[number % len(known)]
            query = unseen_text(text)
            wrong = partial(wrong_passages, tenant=TENANT, first=first)
            return asked.ask(RETRIEVE, query, _passages(query), RETRIEVE_SECONDS, wrong)

        def answer(number: int) -> str:
            text = gold[number % len(gold)]
            return asked.ask(ANSWER, text, {"question": text}, ANSWER_SECONDS, wrong_answer)

        with (
            Load(retrieve, rate, int(context.parameter("clients"))),
            Load(answer, answer_rate, 1),
        ):
            yield asked


@contextmanager
def _client(context: Context) -> Iterator[httpx.Client]:
    """A client as those outside of the cluster have, with a tenant's key that is read once."""
    target = context.target
    if url := target.outside():
        with http.client(url, RETRIEVE_SECONDS) as client:
            client.headers["x-api-key"] = target.api_key(TENANT)
            yield client
    else:
        with target.gateway(TENANT, timeout=RETRIEVE_SECONDS) as client:
            yield client


def _passages(query: str) -> dict[str, object]:
    return {"query": query, "top_n": TOP_N}


def _known(client: httpx.Client, questions: Sequence[str]) -> list[tuple[str, str]]:
    """Questions whose first document is the same each time, and that document; raises `ProbeError`."""
    found = []
    for text in questions:
        first, again = _first(client, text), _first(client, text)
        if first and first == again:
            found.append((text, first))
    if not found:
        raise ProbeError("no question has one document that comes first each time it is asked")
    return found


def _first(client: httpx.Client, text: str) -> str:
    """The document of the first passage, or ''; before the first kill every question is answered."""
    response = client.post(RETRIEVE, json=_passages(unseen_text(text)))
    if flagged(response):
        return ""
    if response.status_code != httpx.codes.OK:
        told = f"{response.status_code}: {response.text[:200]}"
        raise ProbeError(f"before the first kill: {told}")
    results = response.json()["results"]
    return str(results[0]["doc_id"]) if results else ""
