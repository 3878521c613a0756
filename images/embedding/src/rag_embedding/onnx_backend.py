"""The ONNX Runtime backend: BERT encoders on the CPU, in INT8 or FP32."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from rag_assets import AssetError, derived, fetch, load_manifest
from rag_embedding import bert_graph
from rag_embedding.backend import BackendError, Encoded, Matrix, Vectors
from rag_embedding.tokens import TextTokenizer, Tokenizing

GRAPH_VERSION = 2  # part of the model's digest: raise it when the graph computes other numbers


def _normalised(vectors: Matrix) -> Matrix:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), np.float32)


def _session(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads steal the cores from whatever else runs on the machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Other lengths come every time: a memory pattern per shape would only grow.
    options.enable_mem_pattern = False
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class OnnxBackend(Tokenizing):
    """A BERT encoder from `assets.yaml`: dense vectors and token vectors (late interaction)."""

    outputs = frozenset({"dense", "late"})

    def __init__(self, model: str, precision: str, threads: int) -> None:
        if precision not in ("int8", "fp32"):
            raise BackendError(f"precision {precision!r}: the onnx backend has int8 and fp32")
        try:
            folder = fetch(model)
            asset = load_manifest()[model].digest
        except AssetError as error:
            raise BackendError(str(error)) from error
        limits = json.loads((folder / "sentence_bert_config.json").read_text(encoding="utf-8"))
        self.name, self.max_tokens = model, int(limits["max_seq_length"])
        key = f"{asset} {precision} {GRAPH_VERSION} {self.max_tokens}"
        self.digest = hashlib.sha256(key.encode()).hexdigest()
        self._tokenizer = TextTokenizer(folder / "tokenizer.json", self.max_tokens)
        built = derived(
            f"{model}-{precision}-onnx",
            self.digest,
            lambda out: bert_graph.write_bert(folder, out / "model.onnx", int8=precision == "int8"),
        )
        self._session = _session(built / "model.onnx", min(threads, os.cpu_count() or 1))
        self.dimension = int(self._session.get_outputs()[0].shape[-1])

    def embed(self, batch: Sequence[Encoded], outputs: frozenset[str]) -> list[Vectors]:
        """Dense vectors of unit length, and token vectors when `late` is asked for."""
        ids = np.zeros((len(batch), max(len(item.ids) for item in batch)), np.int64)
        mask = np.zeros_like(ids)
        for row, item in enumerate(batch):
            ids[row, : len(item.ids)] = item.ids
            mask[row, : len(item.ids)] = 1
        wanted = ["sentence_embedding", *(["token_embeddings"] if "late" in outputs else [])]
        feed = {"input_ids": ids, "attention_mask": mask}
        dense, *tokens = self._session.run(wanted, feed)
        if not tokens:
            return [Vectors(vector) for vector in dense]
        return [
            Vectors(dense[row], _normalised(tokens[0][row, 1 : len(item.ids) - 1]))
            for row, item in enumerate(batch)
        ]

    def rerank(self, query: str, documents: Sequence[str]) -> None:
        """None: reranking is MaxSim over this model's token vectors."""
