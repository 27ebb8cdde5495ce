"""Runs a batch of which a model may refuse some rows, such as files that it cannot decode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from embedmill.errors import DeviceUnavailable, ModelError, ServerUnavailable
from embedmill.types import Reason, Rejection, Vectors

LONGEST_DETAIL = 200
NOT_THE_ROWS = (DeviceUnavailable, ServerUnavailable)
"""What no row is to blame for, however few there are."""
Run: TypeAlias = Callable[[Mapping[str, npt.NDArray[Any]]], Vectors]
"""A runtime's `run`."""


def run_apart(
    run: Run, feeds: Mapping[str, npt.NDArray[Any]], rows: int
) -> tuple[Vectors, dict[int, Rejection]]:
    """Compute N rows, float32[N, D]; a batch that fails is halved until its bad rows are alone.

    Returns:
        The vectors, zero where refused, and why the model refuses rows. All of one row alone may be refused.

    Raises:
        ModelError: Every row of several failed: then the model is to blame, and not the rows.
    """
    try:
        return run(feeds), {}
    except NOT_THE_ROWS:
        raise
    except ModelError as error:
        vectors, refused = _halves(run, feeds, rows, error)
        if 1 < rows == len(refused):
            raise
        return vectors, refused


def _halves(
    run: Run, feeds: Mapping[str, npt.NDArray[Any]], rows: int, error: ModelError
) -> tuple[Vectors, dict[int, Rejection]]:
    if rows == 1:
        return np.zeros((1, 0), np.float32), {0: _refused(error)}
    parts: list[Vectors] = []
    refused: dict[int, Rejection] = {}
    for start, end in ((0, rows // 2), (rows // 2, rows)):
        half = {name: array[start:end] for name, array in feeds.items()}
        try:
            parts.append(run(half))
        except NOT_THE_ROWS:
            raise
        except ModelError as again:
            vectors, lost = _halves(run, half, end - start, again)
            parts.append(vectors)
            refused |= {start + at: why for at, why in lost.items()}
    width = max(vectors.shape[1] for vectors in parts)
    return np.concatenate([_widened(vectors, width) for vectors in parts]), refused


def _refused(error: ModelError) -> Rejection:
    return Rejection(Reason.VALUE_INVALID, f"the model refuses it: {error.message}"[:LONGEST_DETAIL])


def _widened(vectors: Vectors, width: int) -> Vectors:
    """Rows that were refused have no dimension of their own."""
    return vectors if vectors.shape[1] else np.zeros((len(vectors), width), np.float32)
