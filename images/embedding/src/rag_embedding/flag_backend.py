"""The FlagEmbedding backend: BGE-M3 (dense, sparse, late) or any BGE encoder (dense), and a reranker.

The extra `rag-embedding[flagembedding]` brings torch; this module imports it when a model is
opened. INT8 is the onnx backend's.
"""

import hashlib
import importlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rag_embedding.backend import BackendError, Encoded, Sparse, Vectors
from rag_embedding.tokens import TextTokenizer, Tokenizing

_PINNED = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})")
_MODEL_FILES = ("*.json", "*.safetensors", "*.bin", "*.pt", "1_Pooling/config.json")
_HEADS = ("sparse_linear.pt", "colbert_linear.pt")  # what makes a BGE-M3


def _library(threads: int) -> Any:
    try:
        import FlagEmbedding

        importlib.import_module("torch").set_num_threads(threads)
    except ImportError as error:
        raise BackendError(
            f"the flagembedding backend needs the extra rag-embedding[flagembedding] ({error})"
        ) from error
    return FlagEmbedding


def _folder(model: str) -> Path:
    """A local model folder, or the snapshot of `owner/name@<40 hex revision>` from the hub."""
    if Path(model).is_dir():
        return Path(model)
    if not (pinned := _PINNED.fullmatch(model)):
        raise BackendError(f"model {model!r}: expected a folder or owner/name@<40 hex revision>")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                pinned["repo"], revision=pinned["revision"], allow_patterns=list(_MODEL_FILES)
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise BackendError(f"model {model!r} cannot be had: {error}") from error


def _files(folder: Path) -> Iterator[Path]:
    for pattern in _MODEL_FILES:
        yield from sorted(folder.glob(pattern))


def _digest(folder: Path, precision: str) -> str:
    """SHA-256 over names and contents of the model's files and the precision."""
    total = hashlib.sha256(precision.encode())
    for path in _files(folder):
        with path.open("rb") as file:
            total.update(path.relative_to(folder).as_posix().encode())
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _max_tokens(folder: Path) -> int:
    limits = _json(folder / "sentence_bert_config.json")
    return int(
        limits.get("max_seq_length") or _json(folder / "config.json")["max_position_embeddings"]
    )


def _pooling(folder: Path) -> str:
    modes = _json(folder / "1_Pooling" / "config.json")
    return "mean" if modes.get("pooling_mode_mean_tokens") else "cls"


class FlagBackend(Tokenizing):
    """A FlagEmbedding model; `model` and `reranker` are folders or `owner/name@revision`."""

    def __init__(
        self, model: str, precision: str, threads: int = 2, reranker: str | None = None
    ) -> None:
        if precision not in ("fp16", "fp32"):
            raise BackendError(
                f"precision {precision!r}: flagembedding has fp16 and fp32 (int8 is onnx's)"
            )
        library = _library(threads)
        folder, half = _folder(model), precision == "fp16"
        self.name, self.digest = model.partition("@")[0], _digest(folder, precision)
        self.max_tokens = _max_tokens(folder)
        self.dimension = int(_json(folder / "config.json")["hidden_size"])
        self._tokenizer = TextTokenizer(folder / "tokenizer.json", self.max_tokens)
        self._m3 = all((folder / head).exists() for head in _HEADS)
        self.outputs = frozenset({"dense", "sparse", "late"} if self._m3 else {"dense"})
        if self._m3:
            self._model = library.BGEM3FlagModel(str(folder), use_fp16=half)
        else:
            pooling = _pooling(folder)
            self._model = library.FlagModel(str(folder), use_fp16=half, pooling_method=pooling)
        self._reranker = (
            library.FlagReranker(str(_folder(reranker)), use_fp16=half) if reranker else None
        )

    def embed(self, batch: Sequence[Encoded], outputs: frozenset[str]) -> list[Vectors]:
        """The vectors asked for; dense ones and token vectors have unit length."""
        texts = [item.text for item in batch]
        options = {"batch_size": len(texts), "max_length": self.max_tokens}
        if not self._m3:
            dense = self._model.encode(texts, **options)
            return [Vectors(vector) for vector in np.asarray(dense, np.float32)]
        found = self._model.encode(
            texts,
            return_dense=True,
            return_sparse="sparse" in outputs,
            return_colbert_vecs="late" in outputs,
            **options,
        )
        return [_m3_vectors(found, row) for row in range(len(texts))]

    def rerank(self, query: str, documents: Sequence[str]) -> list[float] | None:
        """Probabilities of relevance by the reranker, None without one."""
        if self._reranker is None:
            return None
        pairs = [(query, document) for document in documents]
        return [float(score) for score in self._reranker.compute_score(pairs, normalize=True)]


def _m3_vectors(found: dict[str, Any], row: int) -> Vectors:
    sparse = tokens = None
    if found["lexical_weights"] is not None:
        weights = found["lexical_weights"][row]
        sparse = Sparse([int(i) for i in weights], [float(w) for w in weights.values()])
    if found["colbert_vecs"] is not None:
        # The last is the end-of-sequence token's; the first, <s>, the library has dropped.
        tokens = np.asarray(found["colbert_vecs"][row], np.float32)[:-1]
    return Vectors(np.asarray(found["dense_vecs"][row], np.float32), tokens, sparse)
