"""Catalog columns as the values that inputs are made of: texts, files, categories, numbers, booleans.

How a field becomes text: integers and decimals as written, true / false, floats by their shortest form
that reads back the same (0.1, 1e+20, nan), dates and times in ISO 8601 without trailing zeros (time zones as
UTC with Z), null as nothing. Strings are taken verbatim: no trimming, no Unicode normalisation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from embedmill.errors import CatalogError
from embedmill.spec import BooleanInput, CategoriesInput, CategoryInput, NumberInput
from embedmill.types import Mask

TEXT = pa.large_string()
"""64-bit offsets: the texts of one batch may pass 2 GiB."""
LISTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)
LARGEST_INTEGER = 2**53
"""Up to here every integer has a float64 of its own."""


@dataclass(frozen=True)
class Numbers:
    """Numbers of N rows: NaN where they are missing, or are none that a float64 tells from its neighbours."""

    values: npt.NDArray[np.float64]
    missing: Mask
    invalid: Mapping[int, str]

    def canonical(self) -> list[bytes]:
        """Big-endian float64, -0.0 as 0.0, NaNs as one; digits where invalid; nothing where missing."""
        plain = np.where(np.isnan(self.values), np.nan, self.values + 0.0)
        joined = plain.astype(">f8").tobytes()
        found = [joined[at : at + 8] for at in range(0, len(joined), 8)]
        for row in np.flatnonzero(self.missing).tolist():
            found[row] = b""
        for row, digits in self.invalid.items():
            found[row] = digits.encode()
        return found


@dataclass(frozen=True)
class Booleans:
    """Booleans of N rows: False where they are missing, or neither 0 nor 1."""

    values: Mask
    missing: Mask
    invalid: Mapping[int, str]

    def canonical(self) -> list[bytes]:
        """`1` or `0`; digits where invalid; nothing where missing."""
        found = [b"1" if value else b"0" for value in self.values.tolist()]
        for row in np.flatnonzero(self.missing).tolist():
            found[row] = b""
        for row, digits in self.invalid.items():
            found[row] = digits.encode()
        return found


@dataclass(frozen=True)
class Lists:
    """Lists of N rows, without nulls and empty texts: row i has `values[offsets[i]:offsets[i + 1]]`."""

    values: pa.Array
    offsets: npt.NDArray[np.int64]

    @property
    def missing(self) -> Mask:
        """bool[N]: rows without values."""
        mask: Mask = np.diff(self.offsets) == 0
        return mask

    @property
    def of_row(self) -> npt.NDArray[np.int64]:
        """int64[M]: the row of each value."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def keep(self, kept: Mask) -> Lists:
        """Without the values of which `kept`, bool[M], is False."""
        counts = np.bincount(self.of_row[kept], minlength=len(self.offsets) - 1)
        return Lists(self.values.filter(pa.array(kept)), _offsets(counts))

    def first(self, most: int) -> Lists:
        """The first `most` values of each row."""
        places = np.arange(len(self.values)) - self.offsets[self.of_row]
        return self.keep(places < most)

    def canonical(self, *, ordered: bool) -> list[bytes]:
        """The values of each row, each behind its length; sorted and distinct unless `ordered`."""
        flat: list[bytes] = self.values.cast(pa.large_binary()).to_pylist()
        encoded = [len(value).to_bytes(4, "big") + value for value in flat]
        rows = [encoded[start:end] for start, end in pairwise(self.offsets.tolist())]
        return [b"".join(row if ordered else sorted(set(row))) for row in rows]


def _offsets(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def number_column(kind: NumberInput, rows: pa.RecordBatch) -> Numbers:
    """The numbers of an input.

    Raises:
        CatalogError: The column is not of integers, floats or decimals.
    """
    column, types = plain_column(rows, kind.field), pa.types
    if types.is_null(column.type):
        column = column.cast(pa.float64())
    is_integer = types.is_integer(column.type)
    if not (is_integer or types.is_floating(column.type) or types.is_decimal(column.type)):
        hint = "`boolean` reads it" if types.is_boolean(column.type) else _typed(kind.field, "float64")
        raise _wrong_type(kind.field, column, "a number input reads integers, floats and decimals", hint)
    missing = _mask(column.is_null())
    invalid = _beyond(column) if is_integer else {}
    if types.is_decimal(column.type):  # digits are read to the nearest float64; Arrow's own way rounds twice
        column = column.cast(pa.string())
    values = pc.fill_null(column.cast(pa.float64(), safe=False), np.nan).to_numpy(zero_copy_only=False).copy()
    values[list(invalid)] = np.nan
    if kind.not_finite == "missing":
        missing = missing | ~(np.isfinite(values) | np.isin(np.arange(len(values)), list(invalid)))
        values[missing] = np.nan
    return Numbers(values, missing, invalid)


def _beyond(column: pa.Array) -> dict[int, str]:
    """Integers that share their float64 with others, in digits, by row."""
    if pa.types.is_integer(column.type) and column.type.bit_width < 64:
        return {}
    far = pc.greater(column, pa.scalar(LARGEST_INTEGER, column.type))
    if pa.types.is_signed_integer(column.type):
        far = pc.or_(far, pc.less(column, pa.scalar(-LARGEST_INTEGER, column.type)))
    found = np.flatnonzero(_mask(pc.fill_null(far, False)))
    return {int(row): str(column[row].as_py()) for row in found}


def boolean_column(kind: BooleanInput, rows: pa.RecordBatch) -> Booleans:
    """The booleans of an input.

    Raises:
        CatalogError: The column is not of booleans or integers.
    """
    column, types = plain_column(rows, kind.field), pa.types
    if types.is_null(column.type):
        column = column.cast(pa.bool_())
    missing = _mask(column.is_null())
    if types.is_boolean(column.type):
        return Booleans(_mask(pc.fill_null(column, False)), missing, {})
    if not types.is_integer(column.type):
        hint = _typed(kind.field, "bool")
        raise _wrong_type(
            kind.field, column, "a boolean input reads booleans, and the integers 0 and 1", hint
        )
    values = pc.fill_null(column, 0).to_numpy(zero_copy_only=False)
    odd = np.flatnonzero((values != 0) & (values != 1))
    return Booleans(values == 1, missing, {int(row): str(values[row]) for row in odd})


def category_column(kind: CategoryInput, rows: pa.RecordBatch) -> pa.Array:
    """The categories of an input: large_string[N], null where there is none.

    Raises:
        CatalogError: The column is not of texts, integers or booleans.
    """
    text = _category_text(kind.field, plain_column(rows, kind.field), "a category input reads")
    return pc.if_else(pc.equal(pc.binary_length(text), 0), pa.scalar(None, TEXT), text)


def list_column(kind: CategoriesInput, rows: pa.RecordBatch) -> Lists:
    """The lists of an input, cut to `length` unless the vocabulary decides what is dropped before.

    Raises:
        CatalogError: The column is not of lists of texts, integers or booleans, nor of texts to be cut.
    """
    column = _as_lists(kind, plain_column(rows, kind.field))
    values = _category_text(
        kind.field, _decoded(pc.list_flatten(column)), "a categories input reads lists of"
    )
    if kind.separator is not None:
        values = pc.utf8_trim_whitespace(values)
    sizes = pc.fill_null(pc.list_value_length(column), 0)  # a null list may have a range, which is left out
    lists = Lists(values, _offsets(sizes.to_numpy(zero_copy_only=False)))
    lists = lists.keep(_mask(pc.greater(pc.fill_null(pc.binary_length(values), 0), 0)))
    return lists if kind.length is None or kind.unknown == "drop" else lists.first(kind.length)


def _as_lists(kind: CategoriesInput, column: pa.Array) -> pa.Array:
    types, found = pa.types, column.type
    if types.is_null(found):
        return pa.nulls(len(column), pa.large_list(TEXT))
    if is_text(found) and kind.separator is not None:
        return pc.split_pattern(column.cast(TEXT), kind.separator)
    if any(test(found) for test in LISTS):
        return column
    hint = "give the input a `separator`, or write a list column" if is_text(found) else ""
    raise _wrong_type(kind.field, column, "a categories input reads lists, or texts with a separator", hint)


def _category_text(field: str, column: pa.Array, reads: str) -> pa.Array:
    types, kind = pa.types, column.type
    if not (is_text(kind) or types.is_integer(kind) or types.is_boolean(kind) or types.is_null(kind)):
        hint = "write whole numbers as integers, and all else as text"
        raise _wrong_type(field, column, f"{reads} texts, integers or booleans", hint)
    return column.cast(TEXT)


def file_column(rows: pa.RecordBatch, name: str, reads: str = "image") -> pa.Array:
    """A column of images or other files: large_binary[N], nulls kept.

    Raises:
        CatalogError: The column is absent or not binary.
    """
    column = plain_column(rows, name)
    if pa.types.is_null(column.type):
        return pa.nulls(rows.num_rows, pa.large_binary())
    if not is_binary(column.type):
        raise CatalogError(f"column {name!r} is {column.type}, and the {reads} input needs binary")
    return column.cast(pa.large_binary())


def is_binary(kind: pa.DataType) -> bool:
    """Whether a column of this type has bytes."""
    types = pa.types
    return any(
        test(kind)
        for test in (
            types.is_binary,
            types.is_large_binary,
            types.is_binary_view,
            types.is_fixed_size_binary,
        )
    )


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type has texts."""
    types = pa.types
    return any(test(kind) for test in (types.is_string, types.is_large_string, types.is_string_view))


def plain_column(rows: pa.RecordBatch, name: str) -> pa.Array:
    """A column without its encoding, in a type of its own: texts past 2 GiB stay large."""
    return _decoded(rows.column(name))


def _decoded(column: pa.Array) -> pa.Array:
    while True:
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        elif pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        elif pa.types.is_run_end_encoded(column.type):
            column = pc.run_end_decode(column)
        else:
            return column


def _wrong_type(field: str, column: pa.Array, reads: str, hint: str) -> CatalogError:
    return CatalogError(f"column {field!r} is {column.type}, and {reads}", hint=hint)


def _typed(field: str, kind: str) -> str:
    return (
        f"of CSV and JSONL files say `types: {{{field}: {kind}}}` in the catalog section; else cast it there"
    )


def text_column(rows: pa.RecordBatch, name: str) -> pa.Array:
    """A column as large_string[N]; null becomes the empty text.

    Raises:
        CatalogError: The column is of a type that no text can be made of.
    """
    column = plain_column(rows, name)
    try:
        text = _as_text(column)
    except pa.ArrowException as error:
        raise CatalogError(
            f"column {name!r} is {column.type}, of which no text can be made: {error}",
            hint="use a string, number, boolean, date or time in templates",
        ) from error
    return pc.fill_null(text, "")


def _as_text(column: pa.Array) -> pa.Array:
    types, kind = pa.types, column.type
    if types.is_floating(kind):
        return _floats(column)
    if types.is_timestamp(kind):
        return _timestamps(column)
    if types.is_date(kind):
        return column.cast(pa.date32()).cast(TEXT)
    if types.is_time(kind):
        return _without_trailing_zeros(column.cast(TEXT))
    if is_binary(kind) or types.is_nested(kind) or types.is_duration(kind):
        raise pa.ArrowNotImplementedError("not a scalar with one way to write it")
    return column.cast(TEXT)


def _floats(column: pa.Array) -> pa.Array:
    """Numpy writes the shortest digits that read back the same in that precision, as `repr` does."""
    encoded = column.cast(pa.float64()).dictionary_encode()
    values = encoded.dictionary.to_numpy(zero_copy_only=False).astype(f"f{column.type.bit_width // 8}")
    return pa.array([str(value) for value in values], TEXT).take(encoded.indices)


def _timestamps(column: pa.Array) -> pa.Array:
    naive = column.cast(pa.timestamp(column.type.unit))
    text = _without_trailing_zeros(pc.strftime(naive, format="%Y-%m-%dT%H:%M:%S").cast(TEXT))
    return (
        text
        if column.type.tz is None
        else pc.binary_join_element_wise(text, pa.scalar("Z", TEXT), pa.scalar("", TEXT))
    )


def _without_trailing_zeros(text: pa.Array) -> pa.Array:
    """The same moment reads the same in whatever unit it was stored."""
    shorter = pc.replace_substring_regex(text, r"(\.[0-9]*?)0+$", r"\1")
    return pc.replace_substring_regex(shorter, r"\.$", "")


def _mask(flags: pa.Array) -> Mask:
    mask: Mask = flags.to_numpy(zero_copy_only=False)
    return mask
