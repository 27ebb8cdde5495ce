"""The tiny text model of all runtimes, without a library of any: weights, and what they make of tokens.

Bytes are tokens; a text's vector is the mean over its tokens of tanh(token + position).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

TOKENS = 258
Array = npt.NDArray[Any]


def weights(*, dimension: int, seed: int = 0, max_length: int = 64) -> dict[str, npt.NDArray[np.float32]]:
    """`table`: float32[258, D], of tokens; `positions`: float32[max_length, D]."""
    random = np.random.default_rng(seed)
    return {
        "table": random.normal(size=(TOKENS, dimension)).astype(np.float32),
        "positions": (random.normal(size=(max_length, dimension)) / 2).astype(np.float32),
    }


def reference(ids: Array, mask: Array, *, dimension: int, seed: int = 0) -> Array:
    """What any runtime must compute of token ids and mask, int64[N, T]: float64[N, D]."""
    known = weights(dimension=dimension, seed=seed)
    states = np.tanh(known["table"][ids].astype(np.float64) + known["positions"][: ids.shape[1]])
    vectors: Array = (states * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
    return vectors
