"""What an encoder sees of a row: templates become text, files stay bytes, values are told by what they mean.

The canonical bytes of each kind: docs/decisions/0015-inputs-of-every-kind.md.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from embedmill.arrow import ByteColumn
from embedmill.errors import CatalogError
from embedmill.model.columns import (
    TEXT,
    boolean_column,
    category_column,
    file_column,
    list_column,
    number_column,
    text_column,
)
from embedmill.spec import (
    AnyInput,
    BooleanInput,
    BytesInput,
    CategoriesInput,
    CategoryInput,
    EncoderInputs,
    ImageInput,
    NumberInput,
    StringInput,
    TextInput,
)
from embedmill.types import CanonicalColumn, InputKind, Mask


def canonical_columns(inputs: EncoderInputs, rows: pa.RecordBatch) -> tuple[list[CanonicalColumn], Mask]:
    """What an encoder will see of N rows, as bytes, and which rows are empty.

    Image columns must by then hold each image's identity as binary. A row is empty when all its inputs
    are: a text whose fields are all null or white space, an image that is null or has no bytes, a value or
    list that is missing.

    Returns:
        A column per input, in order of declaration, and bool[N].

    Raises:
        CatalogError: A column is absent, or of a type that the input does not read.
    """
    check_columns(inputs, rows.schema.names)
    columns = []
    empty: Mask = np.ones(rows.num_rows, dtype=np.bool_)
    for name, spec in inputs.root.items():
        kind, values = _canonical(spec.kind, rows)
        columns.append(CanonicalColumn(name, kind, values))
        empty &= empty_rows(spec.kind, rows)
    return columns, empty


def _canonical(kind: AnyInput, rows: pa.RecordBatch) -> tuple[InputKind, Sequence[bytes]]:
    match kind:
        case TextInput():
            return "text", _bytes(render(kind.template, rows))
        case StringInput():
            return "string", _bytes(render(kind.template, rows))
        case ImageInput():
            columns = [_bytes(file_column(rows, field)) for field in kind.fields]
            return ("image", columns[0]) if isinstance(kind.field, str) else ("images", _joined(columns))
        case BytesInput():
            return "bytes", _bytes(file_column(rows, kind.field, "bytes"))
        case CategoryInput():
            return "category", _bytes(category_column(kind, rows))
        case CategoriesInput():
            ordered = kind.encoding == "padded"
            return "list" if ordered else "set", list_column(kind, rows).canonical(ordered=ordered)
        case NumberInput():
            return "number", number_column(kind, rows).canonical()
        case BooleanInput():
            return "boolean", boolean_column(kind, rows).canonical()


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


def empty_rows(kind: AnyInput, rows: pa.RecordBatch) -> Mask:
    """Which rows give this input nothing to see: bool[N].

    Raises:
        CatalogError: A column is of a type that the input does not read.
    """
    match kind:
        case ImageInput() | BytesInput():
            absent = [_no_bytes(file_column(rows, field, kind.KIND)) for field in kind.fields]
            nothing: Mask = np.logical_and.reduce(absent)
            return nothing
        case CategoryInput():
            return _mask(category_column(kind, rows).is_null())
        case CategoriesInput():
            return list_column(kind, rows).missing
        case NumberInput():
            return number_column(kind, rows).missing
        case BooleanInput():
            return boolean_column(kind, rows).missing
    empty: Mask = np.ones(rows.num_rows, dtype=np.bool_)
    for field in kind.fields:
        text = text_column(rows, field)
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
            parts.append(text_column(rows, field))
    if not any(isinstance(part, pa.Array) for part in parts):
        return pa.array(["".join(part.as_py() for part in parts)] * rows.num_rows, TEXT)
    if len(parts) == 1:
        return parts[0]
    return pc.binary_join_element_wise(*parts, pa.scalar("", TEXT))


def rendered(template: str, rows: pa.RecordBatch) -> npt.NDArray[np.object_]:
    """The template's text for each row, as Python strings: object[N].

    Raises:
        CatalogError: As `render`, or a text is not UTF-8.
    """
    made = render(template, rows)
    try:
        texts: npt.NDArray[np.object_] = made.to_numpy(zero_copy_only=False)
    except (UnicodeDecodeError, pa.ArrowException) as error:
        raise CatalogError(
            f"template {template!r}: a column has text that is not UTF-8",
            hint="write it in UTF-8, or leave the row out",
        ) from error
    return texts


def _no_bytes(column: pa.Array) -> Mask:
    return _mask(pc.equal(pc.fill_null(pc.binary_length(column), 0), 0))


def _joined(columns: Sequence[Sequence[bytes]]) -> list[bytes]:
    """The values of each row, each behind its length."""
    return [
        b"".join(len(value).to_bytes(4, "big") + value for value in row) for row in zip(*columns, strict=True)
    ]


def _mask(flags: pa.Array) -> Mask:
    mask: Mask = flags.to_numpy(zero_copy_only=False)
    return mask


def _bytes(values: pa.Array) -> ByteColumn:
    return ByteColumn(pc.fill_null(values.cast(pa.large_binary()), b""))
