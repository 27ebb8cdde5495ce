"""What an encoder sees of a row: templates become text, images stay bytes.

How a field becomes text: integers and decimals as written, true / false, floats by their shortest form
that reads back the same (0.1, 1e+20, nan), dates and times in ISO 8601 without trailing zeros (time zones as
UTC with Z), null as nothing. Strings are taken verbatim: no trimming, no Unicode normalisation.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embedmill.errors import CatalogError
from embedmill.spec import EncoderInputs, ImageInput, TextInput
from embedmill.types import CanonicalColumn, Mask

TEXT = pa.large_string()
"""64-bit offsets: the texts of one batch may pass 2 GiB."""


def canonical_columns(inputs: EncoderInputs, rows: pa.RecordBatch) -> tuple[list[CanonicalColumn], Mask]:
    """What an encoder will see of N rows, as bytes, and which rows are empty.

    Image columns must by then hold each image's identity as binary. A row is empty when all its inputs
    are: a text whose fields are all null or white space, an image that is null or has no bytes.

    Returns:
        A column per input, in order of declaration, and bool[N].

    Raises:
        CatalogError: A column is absent, or of a type that cannot be one of a text or an image.
    """
    check_columns(inputs, rows.schema.names)
    columns = []
    empty: Mask = np.ones(rows.num_rows, dtype=np.bool_)
    for name, spec in inputs.root.items():
        if isinstance(spec.kind, TextInput):
            values = render(spec.kind.template, rows)
            columns.append(CanonicalColumn(name, "text", _bytes(values)))
        else:
            values = image_bytes(spec.kind, rows)
            columns.append(CanonicalColumn(name, "image", _bytes(values)))
        empty &= empty_rows(spec.kind, rows)
    return columns, empty


def check_columns(inputs: EncoderInputs, present: Sequence[str]) -> None:
    """Every column that the inputs read is there.

    Raises:
        CatalogError: One is not; the message has the columns that there are.
    """
    for name, spec in inputs.root.items():
        missing = [field for field in spec.kind.fields if field not in present]
        if missing:
            raise CatalogError(
                f"the model's input {name!r} reads column {missing[0]!r}, which the catalog does not have",
                hint=f"there are: {', '.join(present)}",
            )


def empty_rows(kind: TextInput | ImageInput, rows: pa.RecordBatch) -> Mask:
    """Which rows give this input nothing to see: bool[N]."""
    if isinstance(kind, ImageInput):
        return _mask(pc.equal(pc.fill_null(pc.binary_length(image_bytes(kind, rows)), 0), 0))
    empty: Mask = np.ones(rows.num_rows, dtype=np.bool_)
    for field in kind.fields:
        text = _field_text(rows, field)
        empty &= _mask(pc.or_(pc.equal(pc.binary_length(text), 0), pc.utf8_is_space(text)))
    return empty


def render(template: str, rows: pa.RecordBatch) -> pa.Array:
    """The template's text for each row: large_string[N] without nulls.

    Raises:
        CatalogError: A column is absent, or of a type that no text can be made of.
    """
    parts: list[pa.Array | pa.Scalar] = []
    for literal, field, _, _ in string.Formatter().parse(template):
        if literal:
            parts.append(pa.scalar(literal, TEXT))
        if field is not None:
            parts.append(_field_text(rows, field))
    if not any(isinstance(part, pa.Array) for part in parts):
        return pa.array(["".join(part.as_py() for part in parts)] * rows.num_rows, TEXT)
    if len(parts) == 1:
        return parts[0]
    return pc.binary_join_element_wise(*parts, pa.scalar("", TEXT))


def image_bytes(kind: ImageInput, rows: pa.RecordBatch) -> pa.Array:
    """The image column: large_binary[N], nulls kept.

    Raises:
        CatalogError: The column is absent or not binary.
    """
    column = _column(rows, kind.field)
    if pa.types.is_null(column.type):
        return pa.nulls(rows.num_rows, pa.large_binary())
    if not _is_binary(column.type):
        raise CatalogError(f"column {kind.field!r} is {column.type}, and the image input needs binary")
    return column.cast(pa.large_binary())


def _is_binary(kind: pa.DataType) -> bool:
    types = pa.types
    return any(test(kind) for test in (types.is_binary, types.is_large_binary, types.is_fixed_size_binary))


def _column(rows: pa.RecordBatch, name: str) -> pa.Array:
    column = rows.column(name)
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _field_text(rows: pa.RecordBatch, name: str) -> pa.Array:
    """A column as large_string[N]; null becomes the empty text."""
    column = _column(rows, name)
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
    if _is_binary(kind) or types.is_nested(kind) or types.is_duration(kind):
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


def _bytes(values: pa.Array) -> Sequence[bytes]:
    """Numpy's object array is made in C: ten times faster than `to_pylist`."""
    found: list[bytes] = (
        pc.fill_null(values.cast(pa.large_binary()), b"").to_numpy(zero_copy_only=False).tolist()
    )
    return found
