"""Trains the evidence models (relevance, answerability, support) on the real pipeline's values.

    python -m benchmarks.train_evidence [--write]

In this process, with the code that the services run: Markdown documents, the ingestion's chunks,
the embedder's INT8 vectors and packed token vectors, BM25, RRF over 20 candidates, MaxSim, five
passages. Exact search takes the place of HNSW (recall .998). Queries whose SHA-256 is 0-4 mod 10
train; the others only measure. Without `--write` it measures and leaves the package alone.
"""

import argparse
import hashlib
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from conformance.corpora import fitz_gov
from rag_assets import derived, fetch, load_manifest
from rag_common.late_interaction import maxsim, pack, unpack
from rag_embedding.onnx_backend import OnnxBackend
from rag_ingestion.chunking import ChunkSettings, chunk_document
from rag_ingestion.convert import convert
from rag_retrieval import evidence
from rag_retrieval.answer.verify import aligned, exact_objection, support_features
from rag_retrieval.evidence import text as lexicon
from rag_retrieval.evidence.features import answerability_features, relevance_features
from rag_retrieval.evidence.reading import DUPLICATE_OVERLAP, ReadPassage, distinct, split_passage
from rag_retrieval.types import Passage, QueryVectors, Retrieval
from rag_store import bm25, fusion
from rag_store.base import Chunk, Hit, SearchMode, indexed_text

MODEL, PRECISION = "all-minilm-l6-v2", "int8"
TOP_K, TOP_N, CHUNK_TOKENS, OVERLAP = 20, 5, 200, 0.1
ANSWERABLE_PASS, FALSE_QUOTE, FALSE_SUPPORT = 0.86, 0.02, 0.005
SUPPORT_CASES, FAULT_CASES = 1500, 400
MODELS_FILE = Path(evidence.__file__).with_name("models.json")
OPPOSITES = [
    ("increased", "decreased"),
    ("higher", "lower"),
    ("more", "less"),
    ("before", "after"),
    ("rose", "fell"),
    ("improved", "worsened"),
    ("required", "optional"),
    ("reduces", "increases"),
]
Matrix = npt.NDArray[np.float32]
Features = dict[str, float]


@dataclass(frozen=True)
class Query:
    """A labelled question."""

    id: str
    text: str
    relevant: frozenset[str]

    @property
    def trains(self) -> bool:
        """Whether the question is in the training half."""
        return not fitz_gov.held_out(self.id)


@dataclass(frozen=True)
class Indexed:
    """A chunk with what the index stores about it."""

    chunk: Chunk
    title: str
    dense: Matrix
    late: bytes


def log(message: str) -> None:
    """A line of progress."""
    print(message, file=sys.stderr, flush=True)


def embed(
    backend: OnnxBackend,
    texts: Sequence[str],
    keep: Callable[[Any], Any] = lambda vectors: vectors.dense,
    *,
    late: bool = False,
) -> list[Any]:
    """What `keep` makes of each text's vectors, in order; batches of texts of like length."""
    encoded = backend.encode(texts)
    order = iter(sorted(range(len(texts)), key=lambda i: len(encoded[i].ids)))
    outputs = frozenset({"dense", "late"} if late else {"dense"})
    found: list[Any] = [None] * len(texts)
    while batch := list(islice(order, 32)):
        vectors = backend.embed([encoded[i] for i in batch], outputs)
        for i, vector in zip(batch, vectors, strict=True):
            found[i] = keep(vector)
    return found


def cached(name: str, key: str, texts: Sequence[str], make: Callable[[], Matrix]) -> Matrix:
    """`make()`, kept in the asset cache under the digest of `key` and `texts`."""
    digest = hashlib.sha256(json.dumps([key, *texts]).encode()).hexdigest()
    folder = derived(f"evidence-{name}", digest, lambda out: np.save(out / "vectors.npy", make()))
    return np.load(folder / "vectors.npy", allow_pickle=False)


def read_queries(folder: Path, known: set[str]) -> list[Query]:
    """All questions but those whose every relevant document was left out of the corpus."""
    mappings = json.loads((folder / "queries" / "query_mappings.json").read_text("utf-8"))
    queries = []
    for rows in mappings["mappings"].values():
        for query_id, row in rows.items():
            relevant = frozenset(f"{name}.md" for name in row["relevant_docs"] if name in known)
            if relevant or not row["relevant_docs"]:
                queries.append(Query(query_id, row["query"], relevant))
    return queries


def build_index(backend: OnnxBackend, documents: Sequence[Any], tokenizer: str) -> list[Indexed]:
    """Every chunk of the documents as ingestion would store it."""
    settings = ChunkSettings(tokenizer, CHUNK_TOKENS, OVERLAP, backend.max_tokens)
    pairs: list[tuple[str, Chunk]] = []
    for document in documents:
        converted = convert(document.doc_id, document.markdown.encode())
        chunked = chunk_document(document.doc_id, converted, settings)
        pairs += [(chunked.title, chunk) for chunk in chunked.chunks]
    texts = [indexed_text(title, chunk) for title, chunk in pairs]
    dense, late = _vectors(backend, texts, "documents", pool=True)
    return [Indexed(c, t, d, v) for (t, c), d, v in zip(pairs, dense, late, strict=True)]


def _vectors(
    backend: OnnxBackend, texts: Sequence[str], name: str, *, pool: bool
) -> tuple[Matrix, list[bytes]]:
    def make() -> Any:
        found = embed(backend, texts, lambda v: (v.dense, pack(v.tokens, pool=pool)), late=True)
        rows = [late for _, late in found]
        width = max(map(len, rows))
        packed = np.array([np.frombuffer(r.ljust(width, b"\0"), np.uint8) for r in rows])
        lengths = np.array([len(r) for r in rows], "<i4").view(np.uint8).reshape(len(rows), 4)
        dense = np.array([dense for dense, _ in found], "<f4")
        return np.hstack([dense.view(np.uint8).reshape(len(rows), -1), lengths, packed])

    rows = cached(name, backend.digest, texts, make)
    size = 4 * backend.dimension
    dense = rows[:, :size].copy().view("<f4")
    lengths = rows[:, size : size + 4].copy().view("<i4")[:, 0]
    late = [row[size + 4 : size + 4 + n].tobytes() for row, n in zip(rows, lengths, strict=True)]
    return dense, late


class Search:
    """The hybrid search and the rerank, over all chunks exactly."""

    def __init__(self, index: Sequence[Indexed]) -> None:
        self.index = index
        self.by_id = {item.chunk.chunk_id: item for item in index}
        self.dense = np.array([item.dense for item in index])
        vectors = [bm25.document_vector(indexed_text(i.title, i.chunk)) for i in index]
        self.frequencies = Counter(term for vector in vectors for term in vector)
        self.columns = {term: column for column, term in enumerate(self.frequencies)}
        rows = [row for row, vector in enumerate(vectors) for _ in vector]
        columns = [self.columns[term] for vector in vectors for term in vector]
        weights = [weight for vector in vectors for weight in vector.values()]
        shape = (len(vectors), len(self.columns))
        self.lexical = csr_matrix((weights, (rows, columns)), shape=shape).tocsc()

    def __call__(self, text: str, dense: Matrix, late: bytes) -> Retrieval:
        """What the retrieval service would return for a question."""
        ranked = fusion.rank(
            self._best(self.dense @ dense), self._best(self._bm25(text)), SearchMode.HYBRID, TOP_K
        )
        tokens = unpack(late)
        hits = [self._hit(item) for item in ranked]
        scores = maxsim(tokens, [hit.late or b"" for hit in hits])
        passages = [Passage(hit, float(score)) for hit, score in zip(hits, scores, strict=True)]
        passages.sort(key=lambda passage: -passage.score)
        vectors = QueryVectors(dense, tokens, MODEL, "")
        return Retrieval(text, vectors, passages, TOP_N, False, {})

    def _bm25(self, text: str) -> npt.NDArray[Any]:
        weights = bm25.query_vector(text, len(self.index), self.frequencies)
        if not weights:
            return np.zeros(len(self.index))
        part = self.lexical[:, [self.columns[term] for term in weights]]
        return np.asarray(part @ np.array(list(weights.values()))).ravel()

    def _best(self, scores: npt.NDArray[Any]) -> list[tuple[str, float]]:
        best = np.argsort(-scores, kind="stable")[:TOP_K]
        return [(self.index[i].chunk.chunk_id, float(scores[i])) for i in best if scores[i] > 0]

    def _hit(self, item: fusion.Ranked) -> Hit:
        found = self.by_id[item.chunk_id]
        return Hit(
            chunk=found.chunk,
            document_uri=found.chunk.doc_id,
            document_title=found.title,
            score=item.score,
            dense_score=item.dense_score,
            dense_rank=item.dense_rank,
            lexical_score=item.lexical_score,
            lexical_rank=item.lexical_rank,
            late=found.late,
        )


def read_passages(backend: OnnxBackend, retrievals: Sequence[Retrieval]) -> list[list[ReadPassage]]:
    """The passages of each retrieval with their sentences' vectors."""
    kept = [distinct(retrieval.passages) for retrieval in retrievals]
    split = [[split_passage(passage.hit.chunk.text) for passage in row] for row in kept]
    flat = sorted({sentence for row in split for part in row for sentence in part})
    log(f"embedding {len(flat)} sentences")
    dense = cached(
        "sentences",
        backend.digest,
        flat,
        lambda: np.array(embed(backend, flat), "<f4"),
    )
    vector = dict(zip(flat, dense, strict=True))
    return [
        [
            ReadPassage(passage, tuple(part), np.array([vector[s] for s in part]))
            for passage, part in zip(row, parts, strict=True)
        ]
        for row, parts in zip(kept, split, strict=True)
    ]


def calibration_error(p: npt.NDArray[Any], y: npt.NDArray[Any], bins: int = 10) -> float:
    """Expected calibration error over bins of equal width."""
    which = np.minimum((p * bins).astype(int), bins - 1)
    gaps = [
        abs(p[which == b].mean() - y[which == b].mean()) * (which == b).mean()
        for b in range(bins)
        if (which == b).any()
    ]
    return float(sum(gaps))


@dataclass(frozen=True)
class Fitted:
    """A fitted model with its probabilities of every row."""

    names: Sequence[str]
    intercept: float
    weights: npt.NDArray[Any]
    p: npt.NDArray[Any]

    def record(self, threshold: float, measured: dict[str, Any]) -> dict[str, Any]:
        """The model's part of the JSON file."""
        weights = {n: round(float(w), 5) for n, w in zip(self.names, self.weights, strict=True)}
        return {
            "intercept": round(self.intercept, 5),
            "weights": weights,
            "threshold": round(threshold, 4),
            "measured": measured,
        }


def fit(rows: Sequence[Features], labels: npt.NDArray[Any], trains: npt.NDArray[Any]) -> Fitted:
    """A logistic regression on the training rows, its weights in the features' own units."""
    names = list(rows[0])
    x = np.array([[row[name] for name in names] for row in rows])
    regression = LogisticRegression(C=0.3, max_iter=4000)
    model = make_pipeline(StandardScaler(), regression).fit(x[trains], labels[trains])
    scaler = model.steps[0][1]
    weights = regression.coef_[0] / scaler.scale_
    intercept = float(regression.intercept_[0] - weights @ scaler.mean_)
    return Fitted(names, intercept, weights, model.predict_proba(x)[:, 1])


def measure(
    fitted: Fitted, labels: npt.NDArray[Any], trains: npt.NDArray[Any]
) -> dict[str, float | int]:
    """AUC and calibration on the held-out rows."""
    p, y = fitted.p[~trains], labels[~trains]
    return {
        "train": int(trains.sum()),
        "held_out": int((~trains).sum()),
        "auc": round(float(roc_auc_score(y, p)), 4),
        "ece": round(calibration_error(p, y), 4),
    }


def train_relevance(
    queries: Sequence[Query], retrievals: Sequence[Retrieval], repeats: "Repeats"
) -> dict[str, Any]:
    """Label: the first passage is of a relevant document or repeats one. Answerable ones only."""
    pairs = [(q, r) for q, r in zip(queries, retrievals, strict=True) if q.relevant]
    rows = [relevance_features(retrieval) for _, retrieval in pairs]
    labels = np.array([repeats.relevant(q, r) for q, r in pairs])
    exact = np.array([_first(r) in q.relevant for q, r in pairs])
    trains = np.array([q.trains for q, _ in pairs])
    fitted = fit(rows, labels, trains)
    measured = measure(fitted, labels, trains) | {
        "mean": round(float(fitted.p[~trains].mean()), 4),
        "relevant_first": round(float(labels[~trains].mean()), 4),
        "gold_id_first": round(float(exact[~trains].mean()), 4),
    }
    return fitted.record(0.5, measured)


class Repeats:
    """Which documents say what another says: the corpus holds many texts twice."""

    def __init__(self, documents: Sequence[Any]) -> None:
        self.terms = {d.doc_id: lexicon.terms(d.text) for d in documents}

    def relevant(self, query: Query, retrieval: Retrieval) -> bool:
        """Whether the first passage's document is relevant or repeats a relevant one."""
        first = _first(retrieval)
        return first in query.relevant or any(self._same(first, gold) for gold in query.relevant)

    def _same(self, first: str, gold: str) -> bool:
        a, b = self.terms.get(first, frozenset()), self.terms.get(gold, frozenset())
        return bool(a and b) and len(a & b) / min(len(a), len(b)) >= DUPLICATE_OVERLAP


def train_answerability(
    queries: Sequence[Query],
    retrievals: Sequence[Retrieval],
    read: Sequence[Sequence[ReadPassage]],
) -> dict[str, Any]:
    """Label: some document answers the question. The threshold lets `ANSWERABLE_PASS` through."""
    rows = [
        answerability_features(q.text, r, passages)
        for q, r, passages in zip(queries, retrievals, read, strict=True)
    ]
    trains = np.array([q.trains for q in queries])
    answerable = np.array([bool(q.relevant) for q in queries])
    fitted = fit(rows, answerable, trains)
    threshold = float(np.quantile(fitted.p[trains & answerable], 1 - ANSWERABLE_PASS))
    p = fitted.p
    roc = {
        str(share): round(float((p[~trains & ~answerable] < cut).mean()), 4)
        for share in (0.8, 0.85, 0.9, 0.95)
        for cut in [np.quantile(p[trains & answerable], 1 - share)]
    }
    measured = measure(fitted, answerable, trains) | {
        "answerable_passed": round(float((p[~trains & answerable] >= threshold).mean()), 4),
        "unanswerable_declined": round(float((p[~trains & ~answerable] < threshold).mean()), 4),
        "unanswerable_declined_by_share_passed": roc,
    }
    return fitted.record(threshold, measured)


def train_support(
    queries: Sequence[Query], read: Sequence[Sequence[ReadPassage]], backend: OnnxBackend
) -> dict[str, Any]:
    """Shortened sentences against their own passage and against another one of the retrieval."""
    random_ = random.Random(7)
    cases = []
    for query, passages in sampled(queries, read, SUPPORT_CASES):
        if len(passages) > 1:
            own, other = random_.sample(range(len(passages)), 2)
            sentence = shorten(random_.choice(passages[own].sentences), random_)
            cases.append((query.trains, sentence, passages[own], passages[other]))
    sentences = [sentence for _, sentence, _, _ in cases]
    vectors = embed(backend, sentences)
    rows, labels, trains = [], [], []
    for (training, sentence, own, other), vector in zip(cases, vectors, strict=True):
        for passage, label in ((own, True), (other, False)):
            rows.append(support_features(sentence, vector, passage))
            labels.append(label)
            trains.append(training)
    y, t = np.array(labels), np.array(trains)
    fitted = fit(rows, y, t)
    cuts = [
        float(np.quantile(fitted.p[t & ~y], 1 - share)) for share in (FALSE_QUOTE, FALSE_SUPPORT)
    ]
    threshold, strict = max(0.5, cuts[0]), max(0.5, cuts[1])
    measured = measure(fitted, y, t) | {
        "supported_quoted": round(float((fitted.p[~t & y] >= threshold).mean()), 4),
        "supported_passed": round(float((fitted.p[~t & y] >= strict).mean()), 4),
        "unsupported_not_quoted": round(float((fitted.p[~t & ~y] < threshold).mean()), 4),
        "unsupported_not_passed": round(float((fitted.p[~t & ~y] < strict).mean()), 4),
        "planted_faults": measure_faults(queries, read, backend),
    }
    record = fitted.record(threshold, measured)
    return {"strict": round(strict, 4)} | record


def sampled(
    queries: Sequence[Query], read: Sequence[Sequence[ReadPassage]], size: int
) -> list[tuple[Query, Sequence[ReadPassage]]]:
    """A random part of the questions with their passages, always the same."""
    return random.Random(size).sample(list(zip(queries, read, strict=True)), size)


def shorten(sentence: str, random_: random.Random) -> str:
    """The sentence without a random fifth of its words, as a model that abridges would write it."""
    words = sentence.split()
    kept = [word for word in words if random_.random() > 0.2]
    return " ".join(kept if len(kept) > 2 else words)


def planted(sentence: str, random_: random.Random) -> dict[str, str]:
    """The sentence with one fault of each kind that it has room for."""
    faults: dict[str, str] = {"none": sentence}
    if found := list(re.finditer(r"(?<![\w.])\d+(?![\w.,])", sentence)):
        match = random_.choice(found)
        value = str(int(match[0]) + random_.choice([1, 3, 10]))
        faults["number"] = sentence[: match.start()] + value + sentence[match.end() :]
    if found := list(re.finditer(r"(?<=[a-z,] )[A-Z][a-z]{3,}", sentence)):
        match = random_.choice(found)
        faults["name"] = sentence[: match.start()] + "Zandovia" + sentence[match.end() :]
    if "not" in sentence.split():
        faults["negation"] = re.sub(r"\bnot ", "", sentence, count=1)
    elif match := re.search(r"\b(?:is|are|was|were|can|will|should|may|has|have)\b", sentence):
        faults["negation"] = f"{sentence[: match.end()]} not{sentence[match.end() :]}"
    for pair in OPPOSITES:
        if match := re.search(rf"\b{pair[0]}\b", sentence):
            faults["opposite"] = sentence[: match.start()] + pair[1] + sentence[match.end() :]
    return faults


def measure_faults(
    queries: Sequence[Query], read: Sequence[Sequence[ReadPassage]], backend: OnnxBackend
) -> dict[str, dict[str, float | int]]:
    """Share of held-out sentences with a planted fault to which the exact checks object."""
    random_ = random.Random(11)
    cases = [
        (kind, text, passages[0])
        for query, passages in sampled(queries, read, FAULT_CASES)
        if passages and not query.trains
        for kind, text in planted(random_.choice(passages[0].sentences), random_).items()
    ]
    vectors = embed(backend, [text for _, text, _ in cases])
    found: dict[str, list[bool]] = {}
    for (kind, text, passage), vector in zip(cases, vectors, strict=True):
        objection = exact_objection(text, passage, aligned(vector, passage))
        found.setdefault(kind, []).append(objection is not None)
    return {
        kind: {"n": len(values), "objected": round(float(np.mean(values)), 4)}
        for kind, values in found.items()
    }


def _first(retrieval: Retrieval) -> str:
    return retrieval.candidates[0].hit.chunk.doc_id if retrieval.candidates else ""


def without_late(retrieval: Retrieval) -> Retrieval:
    """The same retrieval from an index without token vectors."""
    return replace(retrieval, vectors=replace(retrieval.vectors, late=None))


def main() -> int:
    """Print the models' JSON; exit code 1 when the data is not there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"replace {MODELS_FILE.name}")
    arguments = parser.parse_args()
    folder = fetch(fitz_gov.ASSET)
    backend = OnnxBackend(MODEL, PRECISION, 2)
    documents = fitz_gov.read(folder).documents
    tokenizer = str(fetch(MODEL) / "tokenizer.json")
    index = build_index(backend, documents, tokenizer)
    queries = read_queries(folder, {document.id for document in documents})
    log(f"{len(documents)} documents, {len(index)} chunks, {len(queries)} queries")
    dense, late = _vectors(backend, [q.text for q in queries], "queries", pool=False)
    search = Search(index)
    found = [search(q.text, d, v) for q, d, v in zip(queries, dense, late, strict=True)]
    read = read_passages(backend, found)
    plain, repeats = [without_late(retrieval) for retrieval in found], Repeats(documents)
    models = {
        "relevance": train_relevance(queries, found, repeats),
        "relevance_plain": train_relevance(queries, plain, repeats),
        "answerability": train_answerability(queries, found, read),
        "answerability_plain": train_answerability(queries, plain, read),
        "support": train_support(queries, read, backend),
    }
    manifest = load_manifest()
    provenance = {
        "command": "python -m benchmarks.train_evidence --write",
        "data": {"name": fitz_gov.ASSET, "digest": manifest[fitz_gov.ASSET].digest},
        "embedder": {"name": MODEL, "precision": PRECISION, "digest": backend.digest},
        "split": "int(sha256(query_id)) % 10 < 5 trains",
        "pipeline": f"RRF {TOP_K}, MaxSim, top {TOP_N}, chunks of {CHUNK_TOKENS} tokens",
    }
    text = json.dumps({"provenance": provenance, "models": models}, indent=1) + "\n"
    print(text)
    if arguments.write:
        MODELS_FILE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
