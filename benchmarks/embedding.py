"""INT8 against FP32, and packed against unpacked token vectors, on the fitz-gov questions.

Quality is measured on a random sample (fixed seed) of answerable questions over their gold and
decoy documents plus random others; speed as ratios of processor time within this run.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks._progress import bar, say
from rag_assets import derived, fetch, load_manifest
from rag_common.late_interaction import MAX_BYTES, maxsim, pack
from rag_embedding.backend import Encoded
from rag_embedding.onnx_backend import OnnxBackend
from rag_store.bm25 import document_vector, query_vector

MODEL, SEED = "all-minilm-l6-v2", 7
QUERIES, DOCUMENTS = 400, 1500
K, TOP, RRF_K = 10, 20, 60
BATCH_TOKENS = 1024
Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Sample:
    """Questions, documents, and which documents (by position) answer each question."""

    queries: Sequence[str]
    documents: Sequence[str]
    gold: Sequence[frozenset[int]]


@dataclass(frozen=True, slots=True)
class Embedded:
    """Dense vectors, and the token vectors of each text."""

    dense: Array
    tokens: Sequence[Array]


def _corpus() -> dict[str, str]:
    """Texts by id; empty documents and ids with conflicting content are left out."""
    texts: dict[str, str] = {}
    conflicting = set()
    with (fetch("fitz-gov") / "corpus/documents.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            text = f"{record.get('title') or ''}\n{record.get('content') or ''}".strip()
            if texts.setdefault(record["id"], text) != text:
                conflicting.add(record["id"])
    return {i: text for i, text in texts.items() if text and i not in conflicting}


def sample() -> Sample:
    """The random sample; the same for every run."""
    rng, corpus = np.random.default_rng(SEED), _corpus()
    mappings = json.loads((fetch("fitz-gov") / "queries/query_mappings.json").read_text())
    cases = [
        case
        for group in mappings["mappings"].values()
        for case in group.values()
        if case["relevant_docs"] and set(case["relevant_docs"]) <= corpus.keys()
    ]
    chosen = [cases[i] for i in rng.permutation(len(cases))[:QUERIES]]
    wanted = {d for c in chosen for d in (*c["relevant_docs"], *c.get("decoy_docs", ()))}
    others = [i for i in rng.permutation(sorted(corpus)) if i not in wanted]
    ids = [i for i in sorted(wanted) if i in corpus]
    ids += others[: max(0, DOCUMENTS - len(ids))]
    place = {name: position for position, name in enumerate(ids)}
    return Sample(
        [case["query"] for case in chosen],
        [corpus[i] for i in ids],
        [frozenset(place[d] for d in case["relevant_docs"]) for case in chosen],
    )


def _embed(backend: OnnxBackend, texts: Sequence[str]) -> Embedded:
    """Embed in batches of about equal length."""
    encoded = backend.encode(texts)
    order = sorted(range(len(texts)), key=lambda i: -len(encoded[i].ids))
    vectors: list[Any] = [None] * len(texts)
    while order:
        size = max(1, BATCH_TOKENS // len(encoded[order[0]].ids))
        batch, order = order[:size], order[size:]
        found = backend.embed([encoded[i] for i in batch], frozenset({"late"}))
        for index, vector in zip(batch, found, strict=True):
            vectors[index] = vector
    return Embedded(np.stack([v.dense for v in vectors]), [v.tokens for v in vectors])


def embedded(backend: OnnxBackend, kind: str, texts: Sequence[str]) -> Embedded:
    """`_embed`, cached by model, data set and sample."""
    key = f"{load_manifest()['fitz-gov'].digest} {SEED} {QUERIES} {DOCUMENTS} {backend.digest}"

    def build(folder: Any) -> None:
        made = _embed(backend, texts)
        lengths = [len(tokens) for tokens in made.tokens]
        flat = np.concatenate(made.tokens).astype(np.float16)
        np.savez(folder / "vectors.npz", dense=made.dense, tokens=flat, lengths=lengths)

    digest = hashlib.sha256(f"{key} {kind}".encode()).hexdigest()
    data = np.load(derived(f"benchmark-{kind}", digest, build) / "vectors.npz")
    tokens = np.split(data["tokens"].astype(np.float32), np.cumsum(data["lengths"])[:-1])
    return Embedded(data["dense"], tokens)


def _lexical(data: Sample) -> Array:
    """BM25 scores (queries, documents)."""
    vectors = [document_vector(text) for text in data.documents]
    frequencies: dict[int, int] = {}
    for vector in vectors:
        for term in vector:
            frequencies[term] = frequencies.get(term, 0) + 1
    scores = np.zeros((len(data.queries), len(vectors)), np.float32)
    for row, query in enumerate(bar(data.queries, "lexical scores")):
        weights = query_vector(query, len(vectors), frequencies)
        scores[row] = [sum(w * v[t] for t, w in weights.items() if t in v) for v in vectors]
    return scores


def _fused(*legs: Array) -> npt.NDArray[np.intp]:
    """The first `TOP` documents of each query by reciprocal rank fusion of the legs' `TOP`."""
    fused = np.zeros_like(legs[0])
    for scores in legs:
        best = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
        np.put_along_axis(
            fused,
            best,
            np.take_along_axis(fused, best, 1) + (1 / (RRF_K + 1 + np.arange(TOP))).astype("f4"),
            1,
        )
    return np.argsort(-fused, axis=1, kind="stable")[:, :TOP]


def _ndcg(ranked: npt.NDArray[np.intp], gold: Sequence[frozenset[int]]) -> Array:
    """nDCG@10 of each query."""
    discount = 1 / np.log2(np.arange(2, K + 2))
    hits = np.array([[d in g for d in row[:K]] for row, g in zip(ranked, gold, strict=True)])
    ideal = np.array([discount[: len(g)].sum() for g in gold])
    return ((hits * discount).sum(axis=1) / ideal).astype(np.float32)


def _recall(scores: Array, gold: Sequence[frozenset[int]]) -> Array:
    """Recall@10 of each query."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    return np.array([len(g & set(r.tolist())) / len(g) for r, g in zip(best, gold, strict=True)])


def _difference(new: Array, old: Array) -> dict[str, float]:
    """Means, and the paired difference with its standard error."""
    gap = new - old
    error = gap.std(ddof=1) / np.sqrt(len(gap))
    values = {"mean": new.mean(), "baseline": old.mean(), "difference": gap.mean(), "se": error}
    return {name: round(float(value), 4) for name, value in values.items()}


def _best_seconds(work: Callable[[], Any], repeat: int = 7) -> float:
    """The least processor time of `repeat` runs: other load on the machine only adds to it."""
    seconds = []
    for _ in range(repeat):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds)


def _text(tokens: int, seed: int) -> Encoded:
    ids = np.random.default_rng(seed).integers(2000, 20000, tokens - 2)
    return Encoded((101, *map(int, ids), 102), "")


def _speed(backend: OnnxBackend, tokens: int) -> float:
    """Texts a core-second."""
    batch = [_text(tokens, seed) for seed in range(max(1, BATCH_TOKENS // tokens))]
    return len(batch) / _best_seconds(lambda: backend.embed(batch, frozenset({"dense"})))


def _batch_mates(backend: OnnxBackend) -> float:
    """The least cosine between a text's vector alone and among others of other lengths."""
    batch = [_text(tokens, tokens) for tokens in (8, 16, 40, 100, 256)]
    together = backend.embed(batch, frozenset({"dense"}))
    alone = [backend.embed([item], frozenset({"dense"}))[0] for item in batch]
    return float(min(a.dense @ b.dense for a, b in zip(alone, together, strict=True)))


def _rerank(query: Embedded, documents: Sequence[Any], ranked: Any, packed: bool) -> Any:
    """The fused candidates reordered by MaxSim."""
    order = np.empty_like(ranked)
    for row, candidates in enumerate(ranked):
        tokens, docs = query.tokens[row], [documents[i] for i in candidates]
        exact = None if packed else [(tokens @ d.T).max(axis=1).mean() for d in docs]
        scores = maxsim(tokens, docs) if exact is None else np.array(exact)
        order[row] = candidates[np.argsort(-scores, kind="stable")]
    return order


def _late(data: Sample, queries: Embedded, documents: Embedded) -> dict[str, Any]:
    """What packing costs in quality, bytes and time."""
    say("packed token vectors")
    began = time.process_time()
    packed = [pack(tokens, pool=True) for tokens in documents.tokens]
    seconds = (time.process_time() - began) / len(packed)
    fused = _fused(queries.dense @ documents.dense.T, _lexical(data))
    rrf = _ndcg(fused, data.gold)
    full = _ndcg(_rerank(queries, documents.tokens, fused, packed=False), data.gold)
    small = _ndcg(_rerank(queries, packed, fused, packed=True), data.gold)
    longest = sorted(packed, key=len)[-TOP:]
    return {
        "bytes_max": max(map(len, packed)),
        "bytes_mean": round(float(np.mean([len(p) for p in packed]))),
        "unpacked_bytes_mean": round(float(np.mean([t.size * 2 for t in documents.tokens]))),
        "within_budget": max(map(len, packed)) <= MAX_BYTES,
        "pack_ms_per_document": round(seconds * 1e3, 2),
        "maxsim_ms_20_longest": round(
            _best_seconds(lambda: maxsim(queries.tokens[0], longest)) * 1e3, 2
        ),
        "ndcg10_packed_against_unpacked": _difference(small, full),
        "ndcg10_packed_against_rrf": _difference(small, rrf),
    }


def run() -> dict[str, Any]:
    """All figures; the FP32 model and the unpacked vectors are the baselines."""
    data = sample()
    say("speed of INT8 and FP32")
    fp32, int8 = (OnnxBackend(MODEL, precision, 1) for precision in ("fp32", "int8"))
    speed = {tokens: (_speed(int8, tokens), _speed(fp32, tokens)) for tokens in (16, 256)}
    both = [
        (embedded(b, "queries", data.queries), embedded(b, "documents", data.documents))
        for b in (int8, fp32)
    ]
    say("recall")
    (queries, documents), (_, full_documents) = both
    recall, baseline = (_recall(q.dense @ d.dense.T, data.gold) for q, d in both)
    cosines = (documents.dense * full_documents.dense).sum(axis=1)
    return {
        "queries": len(data.queries),
        "documents": len(data.documents),
        "int8_speedup": {
            f"{tokens}_tokens": round(fast / slow, 2) for tokens, (fast, slow) in speed.items()
        },
        "int8_recall10": _difference(recall, baseline),
        "int8_recall10_loss_share": round(1 - float(recall.mean() / baseline.mean()), 4),
        "int8_cosine": {
            "mean": round(float(cosines.mean()), 4),
            "least": round(float(cosines.min()), 4),
        },
        "least_cosine_alone_against_in_a_batch": round(_batch_mates(int8), 6),
        "late": _late(data, queries, documents),
    }


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
