"""A BERT encoder as an ONNX graph, written straight from its safetensors (no torch).

INT8 quantises each token's activations by its own scale, not the whole batch's by one (as
`quantize_dynamic` does): a text's vector then does not depend on what it is batched with.

Inputs `input_ids` and `attention_mask` (batch, tokens); outputs `sentence_embedding` (batch,
hidden; the mean of the tokens, unit length) and `token_embeddings` (batch, tokens, hidden).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

OPSET, IR_VERSION = 20, 10
MASKED = -1e9  # what a padded token's attention score gets added
ACTIVATION_MAX, ZERO_POINT = 127, 128  # activations are unsigned with a fixed zero point
# Below 127: CPUs without VNNI add pairs of products in 16 bits, which full-range weights overflow.
WEIGHT_MAX = 90


@dataclass(frozen=True, slots=True)
class BertConfig:
    """The shape of the model, from its `config.json`."""

    hidden: int
    heads: int
    layers: int
    epsilon: float

    @classmethod
    def read(cls, path: Path) -> "BertConfig":
        """Raises `ValueError` for a model that this graph does not describe."""
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["model_type"] != "bert" or data["hidden_act"] != "gelu":
            raise ValueError(f"{path}: expected a BERT encoder with GELU")
        return cls(
            hidden=data["hidden_size"],
            heads=data["num_attention_heads"],
            layers=data["num_hidden_layers"],
            epsilon=data["layer_norm_eps"],
        )


class _Builder:
    """Collects nodes and constants; every method returns the name of what it made."""

    def __init__(
        self, config: BertConfig, weights: Mapping[str, np.ndarray[Any, Any]], *, int8: bool
    ) -> None:
        self.config, self.weights, self.int8 = config, weights, int8
        self.quantized: dict[str, tuple[str, str]] = {}
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        array = np.ascontiguousarray(value, dtype)
        self.constants.setdefault(name, numpy_helper.from_array(array, name))
        return name

    def ints(self, *values: int) -> str:
        return self.constant("ints_" + "_".join(map(str, values)), values, np.int64)

    def node(self, operator: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        out = out or f"n{len(self.nodes)}_{operator.lower()}"
        self.nodes.append(helper.make_node(operator, inputs, [out], name=out, **attributes))
        return out

    def linear(self, x: str, prefix: str) -> str:
        weight = self.weights[f"{prefix}.weight"].T
        bias = self.constant(f"{prefix}.bias", self.weights[f"{prefix}.bias"])
        if self.int8:
            return self.node("Add", self.int8_matmul(x, prefix, weight), bias)
        return self.node("Add", self.node("MatMul", x, self.constant(prefix, weight)), bias)

    def quantize(self, x: str) -> tuple[str, str]:
        """The activations as integers, and the scale of each token."""
        if x not in self.quantized:
            peak = self.node("ReduceMax", self.node("Abs", x), self.ints(-1), keepdims=1)
            peak = self.node("Max", peak, self.constant("tiny", 1e-9))
            scale = self.node("Div", peak, self.constant("activation_max", ACTIVATION_MAX))
            zero = self.constant("zero_point", ZERO_POINT, np.uint8)
            one = self.constant("one", 1.0)
            integers = self.node("QuantizeLinear", self.node("Div", x, scale), one, zero)
            self.quantized[x] = (integers, scale)
        return self.quantized[x]

    def int8_matmul(self, x: str, prefix: str, weight: np.ndarray[Any, Any]) -> str:
        integers, scale = self.quantize(x)
        scales = np.abs(weight).max(axis=0) / WEIGHT_MAX
        columns = self.constant(f"{prefix}.int8", np.round(weight / scales), np.int8)
        product = self.node("MatMulInteger", integers, columns, "zero_point")
        scaled = self.node("Mul", self.node("Cast", product, to=TensorProto.FLOAT), scale)
        return self.node("Mul", scaled, self.constant(f"{prefix}.scales", scales))

    def norm(self, x: str, prefix: str) -> str:
        scale = self.constant(f"{prefix}.weight", self.weights[f"{prefix}.weight"])
        bias = self.constant(f"{prefix}.bias", self.weights[f"{prefix}.bias"])
        return self.node("LayerNormalization", x, scale, bias, axis=-1, epsilon=self.config.epsilon)

    def embeddings(self) -> str:
        positions = (
            self.weights["embeddings.position_embeddings.weight"]
            + self.weights["embeddings.token_type_embeddings.weight"][0]
        )
        words = self.constant("words", self.weights["embeddings.word_embeddings.weight"])
        length = self.node("Shape", "input_ids", start=1, end=2)
        place = self.node(
            "Slice", self.constant("positions", positions), self.ints(0), length, self.ints(0)
        )
        word = self.node("Gather", words, "input_ids")
        return self.norm(self.node("Add", word, place), "embeddings.LayerNorm")

    def mask(self) -> str:
        mask = self.node("Cast", "attention_mask", to=TensorProto.FLOAT)
        wide = self.node("Unsqueeze", mask, self.ints(1, 2))
        absent = self.node("Sub", self.constant("one", 1.0), wide)
        return self.node("Mul", absent, self.constant("masked", MASKED))

    def heads(self, x: str, prefix: str, order: list[int]) -> str:
        width = self.config.hidden // self.config.heads
        split = self.node(
            "Reshape", self.linear(x, prefix), self.ints(0, 0, self.config.heads, width)
        )
        return self.node("Transpose", split, perm=order)

    def attention(self, x: str, prefix: str, mask: str) -> str:
        scale = self.constant("scale", (self.config.hidden // self.config.heads) ** -0.5)
        query = self.heads(x, f"{prefix}.self.query", [0, 2, 1, 3])
        key = self.heads(x, f"{prefix}.self.key", [0, 2, 3, 1])
        value = self.heads(x, f"{prefix}.self.value", [0, 2, 1, 3])
        scores = self.node("Mul", self.node("MatMul", query, key), scale)
        weights = self.node("Softmax", self.node("Add", scores, mask), axis=-1)
        mixed = self.node("Transpose", self.node("MatMul", weights, value), perm=[0, 2, 1, 3])
        joined = self.node("Reshape", mixed, self.ints(0, 0, self.config.hidden))
        added = self.node("Add", self.linear(joined, f"{prefix}.output.dense"), x)
        return self.norm(added, f"{prefix}.output.LayerNorm")

    def layer(self, x: str, index: int, mask: str) -> str:
        prefix = f"encoder.layer.{index}"
        attended = self.attention(x, f"{prefix}.attention", mask)
        wide = self.node("Gelu", self.linear(attended, f"{prefix}.intermediate.dense"))
        added = self.node("Add", self.linear(wide, f"{prefix}.output.dense"), attended)
        return self.norm(added, f"{prefix}.output.LayerNorm")

    def pool(self, x: str) -> None:
        self.node("Identity", x, out="token_embeddings")
        mask = self.node("Cast", "attention_mask", to=TensorProto.FLOAT)
        kept = self.node("Mul", x, self.node("Unsqueeze", mask, self.ints(-1)))
        total = self.node("ReduceSum", kept, self.ints(1), keepdims=0)
        # The length of the mean is divided out, so the sum will do.
        self.node("LpNormalization", total, out="sentence_embedding", axis=-1, p=2)

    def model(self) -> Any:
        x, mask = self.embeddings(), self.mask()
        for index in range(self.config.layers):
            x = self.layer(x, index, mask)
        self.pool(x)
        ids, real = TensorProto.INT64, TensorProto.FLOAT
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            "bert",
            [value(name, ids, ["batch", "tokens"]) for name in ("input_ids", "attention_mask")],
            [
                value("sentence_embedding", real, ["batch", self.config.hidden]),
                value("token_embeddings", real, ["batch", "tokens", self.config.hidden]),
            ],
            list(self.constants.values()),
        )
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)


def write_bert(model_folder: Path, target: Path, *, int8: bool) -> None:
    """Write the graph of the model in `model_folder` (config.json, model.safetensors)."""
    config = BertConfig.read(model_folder / "config.json")
    model = _Builder(config, load_file(model_folder / "model.safetensors"), int8=int8).model()
    onnx.checker.check_model(model)
    onnx.save(model, str(target))
