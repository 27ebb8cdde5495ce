"""What every feed has in common: it makes arrays for some of the model's inputs out of catalog rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from embedmill.runtimes import TensorSpec
from embedmill.types import Rejection, Rows

Array: TypeAlias = npt.NDArray[Any]
Feeds: TypeAlias = dict[str, Array]
NUMBERS = ("float32", "float16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")
STRING = "string"
ANY_SIZE = 0
"""Of a dimension that differs from batch to batch: a target that fixes it does not fit."""


@dataclass(frozen=True)
class Ready:
    """One input of N rows, made ready to be cut into batches.

    `feed` makes the arrays of a batch's rows; `rejected` rows are in no batch. `lengths`, int64[N] in tokens,
    says which rows cost alike.
    """

    feed: Callable[[Rows], Feeds]
    rejected: Mapping[int, Rejection] = field(default_factory=dict)
    lengths: npt.NDArray[np.int64] | None = None


class Feed(Protocol):
    """Makes what some of the model's inputs get."""

    @property
    def targets(self) -> Sequence[TensorSpec]:
        """The runtime's inputs that this feeds."""
        ...

    def problems(self) -> Iterator[str]:
        """In what the declaration and the runtime's inputs do not fit each other."""
        ...

    def prepare(self, rows: pa.RecordBatch) -> Ready:
        """Read the columns of N rows.

        Raises:
            CatalogError: A column is of a wrong type.
        """
        ...


def present(*targets: TensorSpec | None) -> list[TensorSpec]:
    """Those that there are."""
    return [target for target in targets if target is not None]


def one_a_row(values: Array, target: TensorSpec) -> Array:
    """Values of N rows in the target's type and shape: [N] or [N, 1]."""
    typed = values if target.dtype == STRING else values.astype(target.dtype, copy=False)
    return typed.reshape(-1, 1) if len(target.shape) == 2 else typed


def one_a_row_problems(target: TensorSpec, what: str, dtypes: Iterable[str]) -> Iterator[str]:
    """Why the target cannot get one value a row of one of these types."""
    yield from shape_problems(target, what, [()])
    yield from dtype_problems(target, what, dtypes)


def shape_problems(target: TensorSpec, what: str, shapes: Sequence[tuple[int | None, ...]]) -> Iterator[str]:
    """Why none of these shapes of one row fits the target; a row of one value may stand in [N, 1]."""
    wanted = target.shape[1:]
    fits = not target.shape or any(
        len(wanted) == len(shape)
        and all(not isinstance(a, int) or b is None or a == b for a, b in zip(wanted, shape, strict=True))
        for shape in [*shapes, *([(1,)] if () in shapes else [])]
    )
    if not fits:
        made = " or ".join(f"[{', '.join(['N', *(str(size or '?') for size in row)])}]" for row in shapes)
        yield f"{what} are {made}, and the model's input is {target}"
    if target.shape and isinstance(target.shape[0], int):
        yield f"the model's input has a fixed number of rows, {target}; export it with a free first dimension"


def dtype_problems(target: TensorSpec, what: str, dtypes: Iterable[str]) -> Iterator[str]:
    """Why the target cannot get values of any of these types."""
    allowed = list(dtypes)
    if target.dtype not in allowed:
        *others, last = allowed
        names = f"{', '.join(others)} or {last}" if others else last
        yield f"{what} are {names}, and the model's input is {target}"


def number_problems(target: TensorSpec, what: str) -> Iterator[str]:
    """Why the target cannot get small whole numbers: its type is none of NumPy's."""
    try:
        np.dtype(target.dtype)
    except TypeError:
        yield f"{what} are numbers that NumPy knows, and the model's input is {target}"


def rejections(rows: Array, why: Callable[[int], Rejection]) -> dict[int, Rejection]:
    """`why` of each row of bool[N] that is True."""
    return {row: why(row) for row in np.flatnonzero(rows).tolist()}
