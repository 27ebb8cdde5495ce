"""Packs rows into batches of about equal length: on CPUs twice to three times as fast as catalog order."""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt

from embedmill.types import Rows


def pack(
    lengths: npt.NDArray[np.int64], budget: int, *, most_rows: int = sys.maxsize, mixed: bool = True
) -> list[Rows]:
    """Order rows by length (equal ones stay in order) and cut them into batches.

    A function of its arguments alone: the same rows are batched the same way after any crash, and so
    their vectors have the same bits.

    Args:
        lengths: int64[N], tokens of each row.
        budget: Rows x longest row that a batch may have; a single row may be longer.
        most_rows: Rows that a batch may have.
        mixed: Whether rows of different lengths may share a batch; a model without a mask would see padding.

    Returns:
        Row numbers, int64, shortest rows first; every row once.
    """
    order = np.argsort(lengths, kind="stable")
    sizes = lengths[order].tolist()
    starts = [0]
    for at, longest in enumerate(sizes):
        rows = at - starts[-1] + 1
        too_many = rows > most_rows or rows * longest > budget
        if rows > 1 and (too_many or (not mixed and longest != sizes[starts[-1]])):
            starts.append(at)
    return np.split(order, starts[1:]) if sizes else []
