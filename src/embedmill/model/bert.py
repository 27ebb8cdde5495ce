"""The ONNX graph of a BERT-family encoder with pooling, made from its weights: no torch, no transformers.

The architecture is that of https://arxiv.org/abs/1810.04805 as checkpoints name it: embeddings, then
layers of self-attention and feed-forward, each with a residual and a layer normalisation behind it.
ONNX Runtime fuses what is worth fusing (bias + Gelu); separate or joined query/key/value products and
Gelu as one operator or as its formula ran equally fast, so the plainest form stands here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from embedmill.extras import optional

FAMILY = ("bert", "roberta", "xlm-roberta")
OPSET = 20
IR_VERSION = 10
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUT = "sentence_embedding"
HIDDEN_MASK = -3e38
"""Added to the scores of padding: its attention becomes exactly zero."""

Array = npt.NDArray[Any]
Weights = Callable[[str], npt.NDArray[np.float32]]
"""Gives a checkpoint's tensor by name."""


@dataclass(frozen=True)
class BertShape:
    """What the graph must know beside the weights; the names are those of `config.json`."""

    hidden_size: int
    layers: int
    heads: int
    epsilon: float
    activation: Literal["gelu", "gelu_tanh", "relu"]
    first_position: int
    """Position of the first token: 0, and for RoBERTa the padding id + 1."""
    positions: int
    """Tokens that a text can have."""

    @classmethod
    def knows(cls, config: Mapping[str, Any]) -> bool:
        """Whether a `config.json` is of an architecture that is built here."""
        return (
            config.get("model_type") in FAMILY
            and config.get("position_embedding_type", "absolute") == "absolute"
            and config.get("hidden_act", "gelu") in _ACTIVATIONS
        )

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> BertShape:
        """Read a `config.json` that it `knows`.

        Raises:
            KeyError: A key is missing.
            ValueError, TypeError: A value is none of its kind.
        """
        first = 0 if config["model_type"] == "bert" else int(config["pad_token_id"]) + 1
        return cls(
            hidden_size=int(config["hidden_size"]),
            layers=int(config["num_hidden_layers"]),
            heads=int(config["num_attention_heads"]),
            epsilon=float(config["layer_norm_eps"]),
            activation=_ACTIVATIONS[str(config["hidden_act"])],
            first_position=first,
            positions=int(config["max_position_embeddings"]) - first,
        )


_ACTIVATIONS: Mapping[str, Literal["gelu", "gelu_tanh", "relu"]] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}


def bert_graph(shape: BertShape, weights: Weights, pooling: Literal["mean", "cls"]) -> bytes:
    """An ONNX file: input_ids, attention_mask, token_type_ids (int64[N, T]) to vectors float32[N, D].

    Raises:
        MissingExtra: `onnx` is not installed.
        ModelError: A tensor is missing (from `weights`).
    """
    graph = _Graph(_onnx())
    mask = graph.op("Cast", "attention_mask", to=1)
    states = _embeddings(graph, shape, weights)
    hidden = graph.op(
        "Mul", graph.op("Sub", graph.number(1.0), _unsqueeze(graph, mask, 1, 2)), graph.number(HIDDEN_MASK)
    )
    for layer in range(shape.layers):
        states = _layer(graph, shape, weights, f"encoder.layer.{layer}.", states, hidden)
    _pool(graph, states, mask, pooling)
    return graph.serialize(shape.hidden_size)


@dataclass
class _Graph:
    """Nodes and constants as they are added; every value is named by its number."""

    onnx: ModuleType
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)

    def op(self, kind: str, *inputs: str, to_name: str = "", **options: Any) -> str:
        """Add a node; returns the name of its output."""
        name = to_name or f"{kind}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [name], **options))
        return name

    def weight(self, name: str, value: Array) -> str:
        """Add a constant."""
        self.constants[name] = np.asarray(value, order="C")
        return name

    def number(self, value: float) -> str:
        return self.weight(f"number_{value}", np.array(value, np.float32))

    def integers(self, *values: int) -> str:
        return self.weight("integers_" + "_".join(map(str, values)), np.array(values, np.int64))

    def serialize(self, dimension: int) -> bytes:
        helper, number = self.onnx.helper, self.onnx.TensorProto
        tokens = [helper.make_tensor_value_info(name, number.INT64, ["rows", "tokens"]) for name in INPUTS]
        vectors = helper.make_tensor_value_info(OUTPUT, number.FLOAT, ["rows", dimension])
        tensors = [self.onnx.numpy_helper.from_array(value, name) for name, value in self.constants.items()]
        graph = helper.make_graph(self.nodes, "bert", tokens, [vectors], initializer=tensors)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(
            graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="embedmill"
        )
        encoded: bytes = model.SerializeToString(deterministic=True)
        return encoded


def _onnx() -> ModuleType:
    with optional("onnx", "onnx", extra="import"):
        import onnx
    module: ModuleType = onnx
    return module


def _embeddings(graph: _Graph, shape: BertShape, weights: Weights) -> str:
    def table(name: str) -> str:
        name = f"embeddings.{name}_embeddings.weight"
        return graph.weight(name, weights(name))

    first, axis = graph.integers(shape.first_position), graph.integers(0)
    width = graph.op("Shape", "input_ids", start=1, end=2)
    places = graph.op("Slice", table("position"), first, graph.op("Add", width, first), axis)
    words = graph.op("Gather", table("word"), "input_ids")
    segments = graph.op("Gather", table("token_type"), "token_type_ids")
    total = graph.op("Add", graph.op("Add", words, segments), places)
    return _layer_norm(graph, shape, weights, "embeddings.LayerNorm", total)


def _layer(graph: _Graph, shape: BertShape, weights: Weights, at: str, states: str, hidden: str) -> str:
    attended = _attention(graph, shape, weights, f"{at}attention.self.", states, hidden)
    attended = _linear(graph, weights, f"{at}attention.output.dense", attended)
    states = _layer_norm(
        graph, shape, weights, f"{at}attention.output.LayerNorm", graph.op("Add", attended, states)
    )
    inner = _activate(graph, shape, _linear(graph, weights, f"{at}intermediate.dense", states))
    inner = _linear(graph, weights, f"{at}output.dense", inner)
    return _layer_norm(graph, shape, weights, f"{at}output.LayerNorm", graph.op("Add", inner, states))


def _attention(graph: _Graph, shape: BertShape, weights: Weights, at: str, states: str, hidden: str) -> str:
    """Scaled dot-product attention; the scale is folded into the query's weights."""
    width = shape.hidden_size // shape.heads
    by_head = graph.integers(0, 0, shape.heads, width)

    def heads(name: str, order: tuple[int, ...], scale: float = 1.0) -> str:
        flat = _linear(graph, weights, at + name, states, scale)
        return graph.op("Transpose", graph.op("Reshape", flat, by_head), perm=order)

    query = heads("query", (0, 2, 1, 3), 1.0 / float(np.sqrt(width)))
    scores = graph.op("MatMul", query, heads("key", (0, 2, 3, 1)))
    shares = graph.op("Softmax", graph.op("Add", scores, hidden), axis=-1)
    mixed = graph.op("MatMul", shares, heads("value", (0, 2, 1, 3)))
    joined = graph.op("Transpose", mixed, perm=(0, 2, 1, 3))
    return graph.op("Reshape", joined, graph.integers(0, 0, shape.hidden_size))


def _linear(graph: _Graph, weights: Weights, name: str, states: str, scale: float = 1.0) -> str:
    factor = np.float32(scale)
    matrix = graph.weight(f"{name}.weight", weights(f"{name}.weight").T * factor)
    bias = graph.weight(f"{name}.bias", weights(f"{name}.bias") * factor)
    return graph.op("Add", graph.op("MatMul", states, matrix), bias)


def _layer_norm(graph: _Graph, shape: BertShape, weights: Weights, name: str, states: str) -> str:
    parts = [graph.weight(part, weights(part)) for part in (f"{name}.weight", f"{name}.bias")]
    return graph.op("LayerNormalization", states, *parts, axis=-1, epsilon=shape.epsilon)


def _activate(graph: _Graph, shape: BertShape, states: str) -> str:
    if shape.activation == "relu":
        return graph.op("Relu", states)
    return graph.op("Gelu", states, approximate="tanh" if shape.activation == "gelu_tanh" else "none")


def _unsqueeze(graph: _Graph, value: str, *axes: int) -> str:
    return graph.op("Unsqueeze", value, graph.integers(*axes))


def _pool(graph: _Graph, states: str, mask: str, pooling: Literal["mean", "cls"]) -> None:
    """The mean over tokens that are not padding, or the first token."""
    if pooling == "cls":
        first = graph.weight("first_token", np.array(0, np.int64))
        graph.op("Gather", states, first, axis=1, to_name=OUTPUT)
        return
    counted, over = _unsqueeze(graph, mask, 2), graph.integers(1)
    total = graph.op("ReduceSum", graph.op("Mul", states, counted), over, keepdims=0)
    count = graph.op("Max", graph.op("ReduceSum", counted, over, keepdims=0), graph.number(1e-9))
    graph.op("Div", total, count, to_name=OUTPUT)
