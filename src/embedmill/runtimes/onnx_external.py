"""Lists the files that an ONNX file keeps its large tensors in, without the `onnx` package.

Walks along the message types of onnx.proto that lead to a TensorProto; everything else, the weights included,
is skipped unread.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

from embedmill.errors import ModelError
from embedmill.runtimes.formats import confined
from embedmill.runtimes.protobuf import LENGTH_DELIMITED, Field, fields

CHILDREN: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
"""Which fields of a message lead on, and to what: field numbers of onnx.proto."""

ENTRY_KEY, ENTRY_VALUE = 1, 2


def external_files(file: Path) -> tuple[Path, ...]:
    """Files beside an ONNX file that hold tensors of it, sorted; empty for most models.

    Raises:
        ModelError: The file is no ONNX file, or it names a file outside its folder (CVE-2024-27318).
    """
    try:
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            names = sorted(set(_locations(data)))
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {str(error.strerror).lower()}") from error
    except ValueError as error:  # an empty file cannot be mapped: ValueError
        raise ModelError(f"{file}: is no ONNX file, or a damaged one: {error}") from error
    return tuple(confined(file.parent, name, said_by=str(file)) for name in names)


def _locations(data: mmap.mmap) -> Iterator[str]:
    pending = [("model", 0, len(data))]
    while pending:
        kind, start, end = pending.pop()
        if kind == "entry":
            yield from _location(data, start, end)
            continue
        children = CHILDREN[kind]
        pending += [
            (children[f.number], f.start, f.end) for f in _fields(data, start, end) if f.number in children
        ]


def _location(data: mmap.mmap, start: int, end: int) -> Iterator[str]:
    """The value of a key-value entry whose key is `location`."""
    entry = {field.number: data[field.start : field.end] for field in _fields(data, start, end)}
    if entry.get(ENTRY_KEY) == b"location":
        yield entry.get(ENTRY_VALUE, b"").decode()


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[Field]:
    """The length-delimited fields of one message; the others are skipped."""
    return (field for field in fields(data, start, end) if field.wire == LENGTH_DELIMITED)
