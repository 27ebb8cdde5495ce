"""Raw fields as tensors: what an encoder is asked with, and asks with, over protocols of model servers.

A field is a tensor of N values: texts and everything that templates and vocabularies read as strings, files
as their bytes, lists as texts in JSON, numbers as float64, booleans as bool. An empty text or file stands for
none. A number or a boolean has no such value: a row without one is asked without the tensor.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from embedmill.errors import ModelError
from embedmill.model.columns import (
    Lists,
    boolean_column,
    file_column,
    list_column,
    number_column,
    text_column,
)
from embedmill.runtimes import TensorSpec
from embedmill.spec import (
    AnyInput,
    BooleanInput,
    BytesInput,
    CategoriesInput,
    EncoderInputs,
    ImageInput,
    NumberInput,
)
from embedmill.types import Rows

OUTPUT = "embedding"
"""The name of the vectors' tensor, float32[N, D]."""
Tensors = Mapping[str, npt.NDArray[Any]]


def field_tensors(inputs: EncoderInputs) -> dict[str, TensorSpec]:
    """The tensor of each field that an encoder reads; a free size is None."""
    return {name: _spec(name, kind) for name, kind in _readers(inputs).items()}


def may_be_absent(inputs: EncoderInputs) -> frozenset[str]:
    """Fields whose tensors are left out for rows without a value."""
    readers = _readers(inputs)
    return frozenset(name for name, kind in readers.items() if isinstance(kind, NumberInput | BooleanInput))


def tensors_of(inputs: EncoderInputs, rows: pa.RecordBatch) -> Iterator[tuple[Rows, Tensors]]:
    """Rows as tensors: groups of row numbers, int64[n], that are asked with the same tensors.

    Raises:
        CatalogError: A column is absent, or of a type that the input does not read.
    """
    readers = _readers(inputs)
    values = {name: _values(name, kind, rows) for name, kind in readers.items()}
    absent = np.stack([missing for _, missing in values.values()], axis=1)
    for pattern in np.unique(absent, axis=0):
        chosen = np.flatnonzero((absent == pattern).all(axis=1))
        there = [name for name, gone in zip(values, pattern, strict=True) if not gone]
        if len(chosen):
            yield chosen, {name: values[name][0][chosen] for name in there}


def rows_of_tensors(inputs: EncoderInputs, tensors: Tensors) -> pa.RecordBatch:
    """Tensors of N rows as the columns that the encoder reads; a tensor that is absent is N nulls.

    Raises:
        ModelError: A tensor is unknown, of another type or number of rows, or has text that is not UTF-8.
    """
    readers = _readers(inputs)
    unknown = [name for name in tensors if name not in readers]
    counts = {len(tensor) for tensor in tensors.values()}
    if unknown or len(counts) != 1:
        what = f"the encoder does not read {unknown[0]!r}" if unknown else f"rows of each: {sorted(counts)}"
        raise ModelError(what, hint=f"it reads {', '.join(readers)}, as many rows of each")
    size = counts.pop()
    return pa.record_batch(
        {name: _column(name, kind, tensors.get(name), size) for name, kind in readers.items()}
    )


def _readers(inputs: EncoderInputs) -> dict[str, AnyInput]:
    """What reads each field; where several do, one that wants a type of its own comes before templates."""
    found: dict[str, AnyInput] = {}
    for spec in inputs.root.values():
        for name in spec.kind.fields:
            if name not in found or _dtype(found[name]) == "string":
                found[name] = spec.kind
    return {name: found[name] for name in inputs.fields}


def _dtype(kind: AnyInput) -> str:
    match kind:
        case NumberInput():
            return "float64"
        case BooleanInput():
            return "bool"
    return "string"


def _is_list(kind: AnyInput) -> bool:
    return isinstance(kind, CategoriesInput) and kind.separator is None


def _spec(name: str, kind: AnyInput) -> TensorSpec:
    return TensorSpec(name, _dtype(kind), (None,))


def _values(
    name: str, kind: AnyInput, rows: pa.RecordBatch
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Values of all rows, and where there are none that a tensor could say."""
    none = np.zeros(rows.num_rows, np.bool_)
    match kind:
        case NumberInput():
            numbers = number_column(kind.model_copy(update={"not_finite": "reject"}), rows)
            return numbers.values, numbers.missing
        case BooleanInput():
            truths = boolean_column(kind, rows)
            return truths.values, truths.missing
        case ImageInput() | BytesInput():
            return _bytes(file_column(rows, name, kind.KIND)), none
        case CategoriesInput() if kind.separator is None:
            return _json(list_column(kind, rows)), none
    return _bytes(text_column(rows, name)), none


def _bytes(column: pa.Array) -> npt.NDArray[np.object_]:
    found: npt.NDArray[np.object_] = pc.fill_null(column.cast(pa.large_binary()), b"").to_numpy(
        zero_copy_only=False
    )
    return found


def _json(lists: Lists) -> npt.NDArray[np.object_]:
    values: list[str] = lists.values.to_pylist()
    rows = [values[start:end] for start, end in pairwise(lists.offsets.tolist())]
    found = np.empty(len(rows), np.object_)
    found[:] = [json.dumps(row, ensure_ascii=False).encode() for row in rows]
    return found


def _column(name: str, kind: AnyInput, tensor: npt.NDArray[Any] | None, size: int) -> pa.Array:
    if _dtype(kind) != "string":
        arrow = pa.float64() if isinstance(kind, NumberInput) else pa.bool_()
        return pa.nulls(size, arrow) if tensor is None else pa.array(tensor.reshape(-1), arrow)
    if tensor is None:
        return pa.nulls(size, _arrow(kind))
    if tensor.dtype.kind not in "OS" or tensor.size != size:
        raise ModelError(f"{name}: {tensor.dtype.name}{list(tensor.shape)}, not a string for each row")
    single: list[bytes | None] = [value or None for value in tensor.reshape(-1).tolist()]
    if isinstance(kind, ImageInput | BytesInput):
        return pa.array(single, _arrow(kind))
    try:
        texts = [None if value is None else value.decode() for value in single]
    except UnicodeDecodeError as error:
        raise ModelError(f"{name}: a text is not UTF-8: {error.reason}") from error
    return pa.array(_lists(name, texts) if _is_list(kind) else texts, _arrow(kind))


def _arrow(kind: AnyInput) -> pa.DataType:
    if isinstance(kind, ImageInput | BytesInput):
        return pa.binary()
    return pa.list_(pa.string()) if _is_list(kind) else pa.string()


def _lists(name: str, texts: list[str | None]) -> list[list[str] | None]:
    found: list[list[str] | None] = []
    for text in texts:
        try:
            values = None if text is None else json.loads(text)
        except (ValueError, RecursionError):
            values = text
        if values is not None and not (
            isinstance(values, list) and all(isinstance(value, str) for value in values)
        ):
            raise ModelError(f"{name}: not a list of texts in JSON", hint='such as ["red", "blue"]')
        found.append(values)
    return found
