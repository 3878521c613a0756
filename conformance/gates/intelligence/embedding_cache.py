"""embedding-cache: repeated questions skip the embedder; a declared Zipf replay measures how many."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import httpx
import numpy as np

from conformance.corpora.model import sample
from conformance.corpora.prepare import TENANT, prepared
from conformance.gate import Context, Fault, Gate, Measurement, Observation, Phase, Plot, ProbeError
from conformance.gates.data._queries import flagged
from conformance.gates.intelligence import _answers
from conformance.probes.live import grown, window_gap
from conformance.stats import exactly, share

LIVE_METRIC = "rag_embedding_cache_hit_ratio"
_COUNTER = 'rag_embedding_cache_total{{result="{}"}}'
_RESULTS = ("hit", "miss", "error", "skipped")


def zipf_replay(texts: Sequence[str], queries: int, exponent: float, seed: int) -> list[str]:
    """`queries` draws from `texts`, the k-th with a probability proportional to k^-exponent."""
    weights = np.arange(1, len(texts) + 1, dtype=np.float64) ** -exponent
    random = np.random.default_rng(seed)
    return [texts[i] for i in random.choice(len(texts), queries, p=weights / weights.sum())]


def measure(context: Context) -> Observation:
    """The share of hits in a replay with questions that no cache has seen before it."""
    planned = _replay(context)
    before = context.target.metrics("retrieval")
    sent = _send(context, planned)
    after = context.target.metrics("retrieval")
    context.evidence.write("replay.jsonl", [{"query": q, "cache_hit": h} for q, h in sent])
    served = [(query, hit) for query, hit in sent if hit is not None]
    replay, hits = [query for query, _ in served], [hit for _, hit in served]
    if not hits:
        raise ProbeError("no question of the replay was served")
    measured = share(sum(hits), len(hits))
    return Observation(
        {
            "hit_ratio": measured,
            "possible_ratio": exactly(1 - len(set(replay)) / len(replay), len(replay)),
            "metric_gap": metric_gap(before, after, measured),
            "gauge_gap": window_gap(before, after, LIVE_METRIC, [float(h) for h in hits]),
        },
        notes=[
            f"{len(replay)} queries, {len(set(replay))} distinct;"
            f" {len(sent) - len(served)} more were refused by the guard and met no cache"
        ],
        plots=[_running_ratio(hits)],
    )


def _replay(context: Context) -> list[str]:
    distinct, seed = int(context.parameter("distinct")), int(context.parameter("seed"))
    chosen = sample(prepared(context).full.corpus.answerable, distinct, seed, "cache")
    if len(chosen) < distinct:
        raise ProbeError(f"the corpus has {len(chosen)} answerable questions, not {distinct}")
    unseen = secrets.token_hex(4)
    texts = [f"{query.text} (ref. {unseen})" for query in chosen]
    queries, exponent = int(context.parameter("queries")), float(context.parameter("exponent"))
    return zipf_replay(texts, queries, exponent, seed)


def _send(context: Context, replay: Sequence[str]) -> list[tuple[str, bool | None]]:
    """One at a time, so that two equal questions in flight do not count as one look-up."""
    sent: list[tuple[str, bool | None]] = []
    with context.target.gateway(TENANT) as client:
        for text in replay:
            sent.append((text, _hit(client, text)))
            context.progress(len(sent), len(replay), "replay")
    return sent


def _hit(client: httpx.Client, text: str) -> bool | None:
    """Whether the question's embedding came from the cache; None where the guard refused it."""

    def send() -> tuple[httpx.Response, float]:
        return client.post("/v1/retrieve", json={"query": text, "top_n": 1}), 0.0

    try:
        response, _ = _answers.within_rate(send)
    except httpx.HTTPError as error:
        raise ProbeError(f"/v1/retrieve: {error!r}") from error
    if flagged(response):  # prompt-guard judges that
        return None
    if response.status_code != httpx.codes.OK:
        raise ProbeError(f"/v1/retrieve {response.status_code}: {response.text[:200]}")
    return bool(response.json()["cache_hit"])


def metric_gap(
    before: Mapping[str, float], after: Mapping[str, float], measured: Measurement
) -> Measurement:
    """How far the counters' ratio over the replay is from what the callers saw."""
    moved = {r: grown(before, after, _COUNTER.format(r)) for r in _RESULTS}
    total = sum(moved.values())
    if total <= 0:
        raise ProbeError("rag_embedding_cache_total did not move during the replay")
    return exactly(abs(moved["hit"] / total - measured.value), int(total))


def _running_ratio(hits: Sequence[bool]) -> Plot:
    ratio = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    points = [(float(i + 1), float(r)) for i, r in enumerate(ratio)]
    return Plot("Embedding cache", "queries so far", "hit ratio", {"replay": points})


@contextmanager
def _no_cache(context: Context) -> Iterator[None]:
    with context.target.processes.stopped("valkey"):
        yield


GATE = Gate(
    id="embedding-cache",
    phase=Phase.INTELLIGENCE,
    title="Query embeddings are served from the cache",
    promise="rag_embedding_cache_hit_ratio > 0.40",
    measure=measure,
    faults=(Fault("the cache is stopped", _no_cache),),
)
