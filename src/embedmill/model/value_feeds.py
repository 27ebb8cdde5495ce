"""Feeds of values: categories, lists of them, numbers, booleans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from embedmill.model.columns import (
    LARGEST_INTEGER,
    Lists,
    boolean_column,
    category_column,
    list_column,
    number_column,
)
from embedmill.model.feeding import (
    NUMBERS,
    Array,
    Feeds,
    Ready,
    dtype_problems,
    one_a_row,
    one_a_row_problems,
    present,
    rejections,
    shape_problems,
)
from embedmill.model.vocabulary import UNKNOWN, Vocabulary
from embedmill.runtimes import TensorSpec
from embedmill.spec import BooleanInput, CategoriesInput, CategoryInput, NumberInput
from embedmill.types import Mask, Reason, Rejection, Rows

INDICES = ("int64", "int32", "float32")
"""Models often take indices as floats; those of a vocabulary are exact in float32."""
LONGEST_VALUE = 60
MOST_OF_MULTI_HOT = 65_536
"""V: a batch of 512 rows is then 128 MiB."""


@dataclass(frozen=True)
class CategoryFeed:
    """Feeds the index of a value."""

    target: TensorSpec
    spec: CategoryInput
    vocabulary: Vocabulary

    @property
    def targets(self) -> Sequence[TensorSpec]:
        """See `Feed`."""
        return [self.target]

    def problems(self) -> Iterator[str]:
        """See `Feed`."""
        yield from one_a_row_problems(self.target, "indices of categories", INDICES)

    def prepare(self, rows: pa.RecordBatch) -> Ready:
        """See `Feed`."""
        values = category_column(self.spec, rows)
        lines = self.vocabulary.positions(values)
        absent: Mask = values.is_null().to_numpy(zero_copy_only=False)
        unknown = (lines == UNKNOWN) & ~absent
        rejected: dict[int, Rejection] = {}
        if self.spec.unknown == "reject":
            rejected |= rejections(unknown, lambda row: _unknown(self.spec.field, values[row].as_py()))
        if self.spec.missing == "reject":
            rejected |= _missing(absent, self.spec.field)
        of_unknown = self.spec.unknown if isinstance(self.spec.unknown, int) else 0
        of_missing = self.spec.missing if isinstance(self.spec.missing, int) else of_unknown
        indices_N = np.where(absent, of_missing, np.where(unknown, of_unknown, lines + self.spec.offset))
        return _columns({self.target.name: one_a_row(indices_N, self.target)}, rejected)


@dataclass(frozen=True)
class CategoriesFeed:
    """Feeds the indices of the values of a list, padded, or a one for each."""

    target: TensorSpec
    spec: CategoriesInput
    vocabulary: Vocabulary
    mask: TensorSpec | None

    @property
    def targets(self) -> Sequence[TensorSpec]:
        """See `Feed`."""
        return present(self.target, self.mask)

    @property
    def width(self) -> int:
        """L, or V: what the model says, or else one more than the largest index."""
        if self.spec.length is not None:
            return self.spec.length
        said = self.target.shape[1] if len(self.target.shape) > 1 else None
        return said if isinstance(said, int) else self._largest + 1

    @property
    def _largest(self) -> int:
        unknown = self.spec.unknown if isinstance(self.spec.unknown, int) else 0
        return max(self.spec.offset + len(self.vocabulary) - 1, unknown)

    def problems(self) -> Iterator[str]:
        """See `Feed`."""
        what = "indices of categories" if self.spec.encoding == "padded" else "ones of categories"
        for target in self.targets:
            yield from shape_problems(target, what, [(self.width,)])
            yield from dtype_problems(
                target, what, INDICES if target is self.target and self._padded else NUMBERS
            )
        if self._padded:
            yield from self._padding_problems()
        elif self._largest >= (most := min(self.width, MOST_OF_MULTI_HOT)):
            yield f"categories have indices up to {self._largest}, past the width {most} of {self.target}"

    def _padding_problems(self) -> Iterator[str]:
        """A model that is not told which places are padding must not take it for a value."""
        line = self.spec.padding - self.spec.offset
        there = self.mask is None and 0 <= line < len(self.vocabulary)
        if there and (value := self.vocabulary.values[line].as_py()):
            yield (
                f"padding {self.spec.padding} is the index of {value[:LONGEST_VALUE]!r}; "
                "set `offset: 1`, another `padding`, or a `mask`"
            )

    @property
    def _padded(self) -> bool:
        return self.spec.encoding == "padded"

    def prepare(self, rows: pa.RecordBatch) -> Ready:
        """See `Feed`."""
        lists = list_column(self.spec, rows)
        lines = self.vocabulary.positions(lists.values)
        of_unknown = self.spec.unknown if isinstance(self.spec.unknown, int) else 0
        indices = np.where(lines == UNKNOWN, of_unknown, lines + self.spec.offset)
        offsets = lists.offsets
        if self.spec.unknown == "drop":
            known = lines != UNKNOWN
            indices, offsets = indices[known], lists.keep(known).offsets
        return Ready(lambda batch: self._feed(indices, offsets, batch), self._rejected(lists, lines))

    def _rejected(self, lists: Lists, lines: Rows) -> dict[int, Rejection]:
        rejected: dict[int, Rejection] = {}
        if self.spec.unknown == "reject":
            of_row = lists.of_row
            for at in np.flatnonzero(lines == UNKNOWN)[::-1].tolist():  # the first of a row is what is said
                rejected[int(of_row[at])] = _unknown(self.spec.field, lists.values[at].as_py())
        if self.spec.missing == "reject":
            rejected |= _missing(lists.missing, self.spec.field)
        return rejected

    def _feed(self, indices: Array, offsets: Array, rows: Rows) -> Feeds:
        fill = self.spec.padding if self._padded else 0
        made = np.full((len(rows), self.width), fill, self.target.dtype)
        mask = np.zeros((len(rows), self.width), np.bool_)
        for at, row in enumerate(rows.tolist()):
            values = indices[offsets[row] : offsets[row + 1]]
            if self._padded:
                size = min(len(values), self.width)
                made[at, :size], mask[at, :size] = values[:size], True
            else:
                made[at, values] = 1
        feeds = {self.target.name: made}
        return feeds if self.mask is None else feeds | {self.mask.name: mask.astype(self.mask.dtype)}


@dataclass(frozen=True)
class NumberFeed:
    """Feeds a number."""

    target: TensorSpec
    spec: NumberInput
    indicator: TensorSpec | None

    @property
    def targets(self) -> Sequence[TensorSpec]:
        """See `Feed`."""
        return present(self.target, self.indicator)

    def problems(self) -> Iterator[str]:
        """See `Feed`."""
        yield from one_a_row_problems(self.target, "numbers", NUMBERS[:-1])
        if self.indicator is not None:
            yield from one_a_row_problems(self.indicator, "indicators", NUMBERS)

    def prepare(self, rows: pa.RecordBatch) -> Ready:
        """See `Feed`."""
        read, field = number_column(self.spec, rows), self.spec.field
        filled = read.values
        if isinstance(self.spec.missing, float):
            filled = np.where(read.missing, self.spec.missing, filled)
        typed, fits = _as_numbers(self._transformed(filled), self.target.dtype)
        rejected = _missing(read.missing, field) if self.spec.missing == "reject" else {}
        bad = ~fits & ~(read.missing & (self.spec.missing == "reject"))
        rejected |= rejections(
            bad, lambda row: _no_number(field, read.invalid.get(row), read.values[row], self.target)
        )
        arrays = {self.target.name: one_a_row(typed, self.target)}
        if self.indicator is not None:
            arrays[self.indicator.name] = one_a_row(read.missing, self.indicator)
        return _columns(arrays, rejected)

    def _transformed(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        with np.errstate(all="ignore"):  # what comes out as NaN or infinity is rejected
            plain = np.log1p(values) if self.spec.transform == "log1p" else values
            made: npt.NDArray[np.float64] = (plain - self.spec.mean) / self.spec.std
            return made


def _as_numbers(values: npt.NDArray[np.float64], dtype: str) -> tuple[Array, Mask]:
    """The values in the type, and which of them it can hold."""
    if dtype.startswith("float"):
        with np.errstate(over="ignore"):
            typed: Array = values.astype(dtype)
        return typed, np.isfinite(typed)
    limits = np.iinfo(dtype)
    low, high = max(limits.min, -LARGEST_INTEGER), min(limits.max, LARGEST_INTEGER)
    with np.errstate(invalid="ignore"):
        fits: Mask = (values == np.floor(values)) & (values >= low) & (values <= high)
    return np.where(fits, values, 0).astype(dtype), fits


def _no_number(field: str, digits: str | None, value: float, target: TensorSpec) -> Rejection:
    shown = digits if digits is not None else f"{value:.15g}"
    detail = f"column {field!r}: {shown} makes no finite {target.dtype} for input {target.name!r}"
    return Rejection(Reason.VALUE_INVALID, detail)


@dataclass(frozen=True)
class BooleanFeed:
    """Feeds true and false."""

    target: TensorSpec
    spec: BooleanInput

    @property
    def targets(self) -> Sequence[TensorSpec]:
        """See `Feed`."""
        return [self.target]

    def problems(self) -> Iterator[str]:
        """See `Feed`."""
        yield from one_a_row_problems(self.target, "booleans", NUMBERS)

    def prepare(self, rows: pa.RecordBatch) -> Ready:
        """See `Feed`."""
        read, field = boolean_column(self.spec, rows), self.spec.field
        rejected = {
            row: Rejection(Reason.VALUE_INVALID, f"column {field!r}: {digits} is neither 0 nor 1")
            for row, digits in read.invalid.items()
        }
        if self.spec.missing == "reject":
            rejected |= _missing(read.missing, field)
        values = np.where(read.missing, self.spec.missing is True, read.values)
        return _columns({self.target.name: one_a_row(values, self.target)}, rejected)


def _columns(arrays: Mapping[str, Array], rejected: Mapping[int, Rejection]) -> Ready:
    """Arrays whose first axis is that of the rows."""
    return Ready(lambda batch: {name: array[batch] for name, array in arrays.items()}, rejected)


def _missing(rows: Mask, field: str) -> dict[int, Rejection]:
    why = Rejection(Reason.VALUE_MISSING, f"column {field!r} has no value")
    return rejections(rows, lambda _: why)


def _unknown(field: str, value: str) -> Rejection:
    shown = repr(value if len(value) <= LONGEST_VALUE else value[: LONGEST_VALUE - 1] + "…")
    return Rejection(Reason.VALUE_UNKNOWN, f"column {field!r}: {shown} is not in the vocabulary")
