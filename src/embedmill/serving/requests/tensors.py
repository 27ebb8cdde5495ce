"""Tensors of the Open Inference Protocol (KServe v2): JSON, and the binary extension, both ways.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol, and
https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_binary_data.html:
a body may be a JSON header, whose length an HTTP header says, and behind it the tensors' bytes, little-endian
and row by row; a BYTES value is its length as uint32, and its bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, Field, StrictBool, StrictInt, ValidationError
from pydantic_core import from_json, to_json

from embedmill.errors import RequestRefused
from embedmill.serving.requests.strict import Each

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedmill.types import Vectors

OUTPUT = "embedding"
BYTES, BOOL = "BYTES", "BOOL"
NUMBERS: Mapping[str, str] = {
    **{f"INT{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
}
DATATYPES = (BYTES, BOOL, *NUMBERS)
LONGEST_LENGTH = 18
"""Digits of a length that are read: more bytes than that, nobody has."""


class Parameters(BaseModel):
    """Those of them that mean something here; others may be there."""

    binary_data_size: StrictInt | None = Field(default=None, ge=0)
    binary_data: StrictBool | None = None
    binary_data_output: StrictBool | None = None


class InputTensor(BaseModel):
    """One field of N rows: `data`, or `binary_data_size` bytes behind the header."""

    name: str
    shape: Each[StrictInt]
    datatype: str
    parameters: Parameters = Parameters()
    data: list[Any] | None = None


class OutputWanted(BaseModel):
    """An output, and how it is to come."""

    name: str
    parameters: Parameters = Parameters()


class InferHeader(BaseModel):
    """The JSON of a request."""

    id: str | None = None
    parameters: Parameters = Parameters()
    inputs: Each[InputTensor]
    outputs: Each[OutputWanted] | None = None

    @property
    def binary_output(self) -> bool:
        """Whether the vectors are to come as bytes."""
        said = [output.parameters.binary_data for output in self.outputs or []]
        return bool(self.parameters.binary_data_output if not said or said[0] is None else said[0])


@dataclass(frozen=True)
class InferRequest:
    """A request taken apart: Python values of each field; BYTES are `bytes`, or `str` if they were JSON."""

    header: InferHeader
    columns: Mapping[str, list[Any]]


def read_request(body: bytes, header_length: str | None, refuse_count: Callable[[int], None]) -> InferRequest:
    """Take a request apart; `refuse_count` hears how many rows there are before they are read.

    Raises:
        RequestRefused: It is no JSON, a length lies, or types, shapes and values do not fit each other.
    """
    end = _header_end(header_length, len(body))
    try:
        header = InferHeader.model_validate(from_json(body[:end]))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RequestRefused(f"{where}: {first['msg']}") from None
    except ValueError as error:
        raise RequestRefused(f"the request is no JSON: {error}") from None
    unknown = [output.name for output in header.outputs or [] if output.name != OUTPUT]
    if unknown:
        raise RequestRefused(f"there is no output {unknown[0]!r}", hint=f"there is {OUTPUT!r} alone")
    columns: dict[str, list[Any]] = {}
    for tensor in header.inputs:
        raw, end = _raw(tensor, body, end)
        if tensor.name in columns:
            raise RequestRefused(f"input {tensor.name!r} is there twice")
        rows = _rows(tensor)
        refuse_count(rows)
        columns[tensor.name] = _values(tensor, rows, raw)
    if end != len(body):
        raise RequestRefused(f"{len(body) - end} bytes of the body belong to no input")
    return InferRequest(header, columns)


def _header_end(length: str | None, size: int) -> int:
    if length is None:
        return size
    digits = length.isascii() and length.isdigit() and len(length) <= LONGEST_LENGTH
    if not digits or int(length) > size:
        raise RequestRefused(f"the header has {length[:LONGEST_LENGTH]!r} bytes, and the body {size}")
    return int(length)


def _raw(tensor: InputTensor, body: bytes, start: int) -> tuple[memoryview | None, int]:
    """The bytes of a tensor, if it has any behind the header, and where the next one's begin."""
    size = tensor.parameters.binary_data_size
    if (size is None) == (tensor.data is None):
        raise RequestRefused(f"input {tensor.name!r} has neither or both of `data` and `binary_data_size`")
    if size is None:
        return None, start
    if size > len(body) - start:
        raise RequestRefused(f"input {tensor.name!r}: {len(body) - start} bytes are left of {size}")
    return memoryview(body)[start : start + size], start + size


def _rows(tensor: InputTensor) -> int:
    """N of a shape [N] or [N, 1]."""
    if tensor.datatype not in DATATYPES:
        raise RequestRefused(
            f"input {tensor.name!r}: there is no type {tensor.datatype!r}",
            hint=f"there are: {', '.join(DATATYPES)}",
        )
    shape = tensor.shape
    if len(shape) not in {1, 2} or shape[0] < 0 or shape[1:] not in ([], [1]):
        raise RequestRefused(f"input {tensor.name!r} has the shape {shape[:8]}", hint="send [N], or [N, 1]")
    return shape[0]


def _values(tensor: InputTensor, rows: int, raw: memoryview | None) -> list[Any]:
    if raw is None:
        values = _flat(tensor)
    elif tensor.datatype == BYTES:
        values = _split(tensor.name, raw)
    else:
        values = _unpacked(tensor, raw)
    if len(values) != rows:
        raise RequestRefused(f"input {tensor.name!r} has {len(values)} values, and its shape says {rows}")
    return values


def _flat(tensor: InputTensor) -> list[Any]:
    """Values of JSON, which may be nested as the shape says."""
    values = tensor.data or []
    if len(tensor.shape) > 1 and any(isinstance(value, list) for value in values):
        values = [part for value in values for part in (value if isinstance(value, list) else [value])]
    allowed = {BYTES: (str,), BOOL: (bool,)}.get(tensor.datatype, (int, float))
    for row, value in enumerate(values):
        if not isinstance(value, allowed) or (isinstance(value, bool) and tensor.datatype != BOOL):
            raise RequestRefused(f"input {tensor.name!r}: value {row} is no {tensor.datatype}")
    return values


def _split(name: str, raw: memoryview) -> list[Any]:
    """Each value stands behind its length."""
    values: list[Any] = []
    at = 0
    while at < len(raw):
        if at + 4 > len(raw):
            raise RequestRefused(f"input {name!r}: its bytes end within a length")
        (size,) = struct.unpack_from("<I", raw, at)
        at += 4
        if size > len(raw) - at:
            raise RequestRefused(
                f"input {name!r}: value {len(values)} has {size} bytes, and {len(raw) - at} are left"
            )
        values.append(bytes(raw[at : at + size]))
        at += size
    return values


def _unpacked(tensor: InputTensor, raw: memoryview) -> list[Any]:
    dtype = np.dtype(NUMBERS.get(tensor.datatype, "u1"))
    if len(raw) % dtype.itemsize:
        raise RequestRefused(f"input {tensor.name!r}: {len(raw)} bytes are no whole number of values")
    found = np.frombuffer(raw, dtype)
    return list((found != 0).tolist() if tensor.datatype == BOOL else found.tolist())


def written(header: InferHeader, model: str, version: str, vectors_ND: Vectors) -> tuple[bytes, int | None]:
    """The body of an answer, and the length of its JSON where bytes follow."""
    flat = np.ascontiguousarray(vectors_ND, "<f4")
    output: dict[str, Any] = {"name": OUTPUT, "datatype": "FP32", "shape": list(vectors_ND.shape)}
    data = flat.tobytes() if header.binary_output else b""
    if header.binary_output:
        output["parameters"] = {"binary_data_size": len(data)}
    else:
        output["data"] = flat.ravel().tolist()
    document = {"model_name": model, "model_version": version, "outputs": [output]}
    if header.id is not None:
        document["id"] = header.id
    said = to_json(document)
    return said + data, len(said) if header.binary_output else None
