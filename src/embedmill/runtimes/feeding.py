"""Whether feeds are what a model declares, for libraries that would compute something out of wrong ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy.typing as npt

from embedmill.errors import ModelError
from embedmill.runtimes.base import TensorSpec


def check_feeds(
    inputs: Mapping[str, TensorSpec],
    feeds: Mapping[str, npt.NDArray[Any]],
    *,
    said_by: str,
    longest: Mapping[str, int] | None = None,
) -> None:
    """Let feeds pass that have every input, by its type, rank and fixed sizes, and nothing else.

    Args:
        inputs: What the model declares; of a shape without sizes nothing is known.
        feeds: What it is fed.
        said_by: Whose model it is, for messages.
        longest: The largest that free sizes may be, by name.

    Raises:
        ModelError: They do not fit; says each difference.
    """
    problems = list(_problems(inputs, feeds, longest or {}))
    if problems:
        raise ModelError(f"{said_by}: {'; '.join(problems)}")


def fed_dtype(array: npt.NDArray[Any]) -> str:
    """The type of an array as a `TensorSpec` writes it."""
    return "string" if array.dtype.kind in "OSU" else array.dtype.name


def _problems(
    inputs: Mapping[str, TensorSpec], feeds: Mapping[str, npt.NDArray[Any]], longest: Mapping[str, int]
) -> Iterator[str]:
    yield from (f"input {name!r} is not fed" for name in inputs if name not in feeds)
    yield from (f"there is no input {name!r}" for name in feeds if name not in inputs)
    for name, fed in feeds.items():
        declared = inputs.get(name)
        if declared is None:
            continue
        if not _fits(declared, fed, longest):
            yield f"input {declared} is fed {fed_dtype(fed)}{list(fed.shape)}"
        elif fed.dtype.kind == "O" and not all(isinstance(text, str | bytes) for text in fed.flat):
            yield f"input {declared} is fed objects that are neither str nor bytes"


def _fits(declared: TensorSpec, fed: npt.NDArray[Any], longest: Mapping[str, int]) -> bool:
    return fed_dtype(fed) == declared.dtype and (
        not declared.shape
        or (
            fed.ndim == len(declared.shape)
            and all(
                size == limit if isinstance(limit, int) else size <= longest.get(limit or "", size)
                for size, limit in zip(fed.shape, declared.shape, strict=True)
            )
        )
    )
