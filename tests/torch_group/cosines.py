"""How alike vectors are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]


def lowest_cosine(left: Vectors, right: Vectors) -> float:
    """Of rows, pairwise, in float64."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    return float(((a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())
