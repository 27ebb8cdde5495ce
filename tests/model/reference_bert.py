"""BERT by the book, in float64 numpy, one text at a time: slow, and too plain to be wrong in the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import erf
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def embed(
    ids: Sequence[int], config: Mapping[str, Any], weights: Mapping[str, npt.NDArray[Any]], pooling: str
) -> Array:
    """The pooled vector of one text's token ids."""
    w = {name: tensor.astype(np.float64) for name, tensor in weights.items()}
    first = 0 if config["model_type"] == "bert" else config["pad_token_id"] + 1
    x = w["embeddings.word_embeddings.weight"][list(ids)]
    x = x + w["embeddings.position_embeddings.weight"][first : first + len(ids)]
    x = x + w["embeddings.token_type_embeddings.weight"][0]
    x = norm(x, w, "embeddings.LayerNorm", config)
    for layer in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{layer}."
        attended = linear(attention(x, w, f"{at}attention.self.", config), w, f"{at}attention.output.dense")
        x = norm(x + attended, w, f"{at}attention.output.LayerNorm", config)
        inner = linear(activation(linear(x, w, f"{at}intermediate.dense"), config), w, f"{at}output.dense")
        x = norm(x + inner, w, f"{at}output.LayerNorm", config)
    pooled: Array = x.mean(axis=0) if pooling == "mean" else x[0]
    return pooled


def attention(x: Array, w: Mapping[str, Array], at: str, config: Mapping[str, Any]) -> Array:
    query, key, value = (linear(x, w, at + name) for name in ("query", "key", "value"))
    width = config["hidden_size"] // config["num_attention_heads"]
    heads = []
    for head in range(config["num_attention_heads"]):
        part = slice(head * width, (head + 1) * width)
        scores = query[:, part] @ key[:, part].T / np.sqrt(width)
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        heads.append(shares / shares.sum(axis=1, keepdims=True) @ value[:, part])
    return np.concatenate(heads, axis=1)


def linear(x: Array, w: Mapping[str, Array], name: str) -> Array:
    made: Array = x @ w[f"{name}.weight"].T + w[f"{name}.bias"]
    return made


def norm(x: Array, w: Mapping[str, Array], name: str, config: Mapping[str, Any]) -> Array:
    centred = x - x.mean(axis=1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=1, keepdims=True) + config["layer_norm_eps"])
    made: Array = centred / deviation * w[f"{name}.weight"] + w[f"{name}.bias"]
    return made


def activation(x: Array, config: Mapping[str, Any]) -> Array:
    if config["hidden_act"] == "relu":
        return np.maximum(x, 0.0)
    if config["hidden_act"] == "gelu_new":
        share: Array = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))
    else:
        share = np.vectorize(erf)(x / np.sqrt(2))
    return 0.5 * x * (1 + share)
