"""Whether feeds are what a model declares, for libraries that would compute something out of wrong ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy.typing as npt

from embedmill.errors import ModelError
from embedmill.runtimes.base import TensorSpec


def check_feeds(
    inputs: Mapping[str, TensorSpec], feeds: Mapping[str, npt.NDArray[Any]], *, said_by: str
) -> None:
    """Let feeds pass that have every input, by its type, rank and fixed sizes, and nothing else.

    Raises:
        ModelError: They do not; says each difference.
    """
    problems = list(_problems(inputs, feeds))
    if problems:
        raise ModelError(f"{said_by}: {'; '.join(problems)}")


def _problems(inputs: Mapping[str, TensorSpec], feeds: Mapping[str, npt.NDArray[Any]]) -> Iterator[str]:
    yield from (f"input {name!r} is not fed" for name in inputs if name not in feeds)
    yield from (f"there is no input {name!r}" for name in feeds if name not in inputs)
    for name, fed in feeds.items():
        declared = inputs.get(name)
        if declared is not None and not _fits(declared, fed):
            yield f"input {declared} is fed {fed.dtype}{list(fed.shape)}"


def _fits(declared: TensorSpec, fed: npt.NDArray[Any]) -> bool:
    return (
        fed.dtype.name == declared.dtype
        and fed.ndim == len(declared.shape)
        and all(not isinstance(d, int) or d == s for d, s in zip(declared.shape, fed.shape, strict=True))
    )
