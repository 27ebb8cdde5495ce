"""Whether feeds are what a server's model takes: told here, before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from embedmill.errors import ModelError
from embedmill.runtimes.base import TensorSpec
from embedmill.runtimes.remote.base import Feeds, rows_of


def check_feeds(feeds: Feeds, inputs: Mapping[str, TensorSpec], *, said_by: str) -> None:
    """Fail unless there is a feed for each input, of its type and shape, and all have as many rows.

    Raises:
        ModelError: There is not.
    """
    if set(feeds) != set(inputs):
        takes, got = ", ".join(sorted(inputs)), ", ".join(sorted(feeds))
        raise ModelError(f"{said_by}: takes {takes}, and was fed {got}")
    for name, array in feeds.items():
        if not _fits(array, inputs[name]):
            raise ModelError(
                f"{said_by}: takes {inputs[name]}, and was fed {_dtype(array)}{list(array.shape)} as {name}"
            )
    if len({len(array) for array in feeds.values()}) > 1:
        counts = ", ".join(f"{name} {len(array)}" for name, array in feeds.items())
        raise ModelError(f"{said_by}: was fed different counts of rows: {counts}")


def split(feeds: Feeds, rows: int) -> list[Feeds]:
    """The same rows in order, in parts of `rows` at most."""
    starts = range(0, rows_of(feeds), rows)
    return [{name: array[start : start + rows] for name, array in feeds.items()} for start in starts]


def _fits(array: npt.NDArray[Any], spec: TensorSpec) -> bool:
    return (
        array.ndim > 0
        and _dtype(array) == spec.dtype
        and array.ndim == len(spec.shape)
        and all(
            not isinstance(size, int) or size == there
            for size, there in zip(spec.shape, array.shape, strict=True)
        )
    )


def _dtype(array: npt.NDArray[Any]) -> str:
    return "string" if array.dtype.kind in "OSU" else array.dtype.name
