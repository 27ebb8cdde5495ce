"""Requests become rows: the columns that an encoder reads, in the types that a catalog would have."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from embedmill.errors import RequestRefused
from embedmill.spec import (
    BooleanInput,
    BytesInput,
    CategoriesInput,
    CategoryInput,
    ImageInput,
    NumberInput,
    StringInput,
    TextInput,
)

if TYPE_CHECKING:
    from embedmill.model import Encoder
    from embedmill.spec import AnyInput

BASE64 = "b64"
"""The key of an object that stands for bytes in JSON, as TensorFlow Serving writes them."""

PLAIN = (str, int, float, bool)
LONGEST_REASON = 200
"""Characters of a reason: some quote the value, and a value may be anything."""


def field_types(encoder: Encoder) -> dict[str, pa.DataType | None]:
    """The type of each column that an encoder reads; None where any will do, as in templates."""
    found: dict[str, pa.DataType | None] = {}
    for spec in encoder.package.inputs(encoder.name).root.values():
        for name in spec.kind.fields:
            known = _type(spec.kind)
            found[name] = known if found.get(name) is None else found[name]
    return {name: found[name] for name in encoder.fields}


def _type(kind: AnyInput) -> pa.DataType | None:
    match kind:
        case ImageInput() | BytesInput():
            return pa.binary()
        case CategoriesInput():
            return pa.string() if kind.separator is not None else pa.list_(pa.string())
        case NumberInput():
            return pa.float64()
        case BooleanInput():
            return pa.bool_()
        case CategoryInput() | TextInput() | StringInput():
            return None


def rows_of(encoder: Encoder, columns: Mapping[str, Sequence[Any]]) -> pa.RecordBatch:
    """Columns of Python values as rows; a column that is absent is all null.

    Raises:
        RequestRefused: There is a column that the encoder does not read, they differ in length, or a value is
            of a wrong type.
    """
    types = field_types(encoder)
    unknown = [name for name in columns if name not in types]
    if unknown or not columns:
        raise RequestRefused(
            f"encoder {encoder.name!r} does not read {unknown[0]!r}" if unknown else "no inputs",
            hint=f"it reads: {', '.join(types)}",
        )
    sizes = {len(values) for values in columns.values()}
    if len(sizes) != 1:
        raise RequestRefused(f"inputs have different numbers of rows: {', '.join(map(str, sorted(sizes)))}")
    size = sizes.pop()
    arrays = {name: _array(name, columns.get(name) or [None] * size, kind) for name, kind in types.items()}
    return pa.record_batch(arrays)


def text_rows(encoder: Encoder, texts: Sequence[str]) -> pa.RecordBatch:
    """Texts as rows of an encoder that reads one text.

    Raises:
        RequestRefused: It reads something else, or a text has a part that is no character.
    """
    inputs = encoder.package.inputs(encoder.name)
    if inputs.text_field is None:
        raise RequestRefused(
            f"encoder {encoder.name!r} reads {', '.join(encoder.fields)}, not one text",
            hint="send its fields by name",
        )
    return pa.record_batch({inputs.text_field: _array(inputs.text_field, texts, pa.string())})


def image_rows(encoder: Encoder, images: Sequence[bytes]) -> pa.RecordBatch:
    """Image files as rows of an encoder that reads one image.

    Raises:
        RequestRefused: It reads something else.
    """
    inputs = encoder.package.inputs(encoder.name)
    if len(inputs.image_fields) != 1 or len(inputs.fields) != 1:
        raise RequestRefused(
            f"encoder {encoder.name!r} reads {', '.join(encoder.fields)}, not one image",
            hint="send its fields by name",
        )
    return pa.record_batch({inputs.fields[0]: pa.array(images, pa.binary())})


def bytes_of(value: Any, what: str) -> bytes:
    """Bytes of JSON: base64, plain or as `{"b64": …}`.

    Raises:
        RequestRefused: It is neither.
    """
    text = value.get(BASE64) if isinstance(value, Mapping) else value
    if isinstance(text, bytes):
        return text
    try:
        if isinstance(text, str):
            return base64.b64decode(text, validate=True)
    except ValueError:
        pass
    raise RequestRefused(f"{what}: not base64", hint='send {"b64": "…"}')


def _array(name: str, values: Sequence[Any], kind: pa.DataType | None) -> pa.Array:
    if kind is not None and pa.types.is_binary(kind):
        values = [None if value is None else bytes_of(value, name) for value in values]
    else:
        _refuse_nested(name, values, lists=kind is not None and pa.types.is_list(kind))
    try:
        if kind is not None:
            return pa.array(values, kind)
        guessed = pa.array(values)
    except (pa.ArrowException, UnicodeEncodeError, TypeError, ValueError, OverflowError) as error:
        reason = error.reason if isinstance(error, UnicodeEncodeError) else str(error).splitlines()[0]
        raise RequestRefused(f"{name}: {reason[:LONGEST_REASON]}") from None
    return guessed.cast(pa.string()) if pa.types.is_null(guessed.type) else guessed


def _refuse_nested(name: str, values: Sequence[Any], *, lists: bool) -> None:
    """Arrow would go down as deep as a request's lists are."""
    for row, value in enumerate(values):
        parts = value if lists and isinstance(value, list) else [value]
        if not all(part is None or isinstance(part, PLAIN) for part in parts):
            wanted = "a list of texts" if lists else "a text, a number or a boolean"
            raise RequestRefused(f"{name}: input {row} is not {wanted}")
