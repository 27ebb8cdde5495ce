"""What an ONNX file says that it needs, and a file that needs just that; without the onnx package.

Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embedmill.errors import ModelError
from embedmill.runtimes.protobuf import Message

_IR_VERSION, _GRAPH, _OPSET_IMPORT = 1, 7, 8
_DOMAIN, _VERSION = 1, 2
OWN = "ai.onnx"
"""ONNX's own operators, whose domain is written as the empty text, too."""


@dataclass(frozen=True)
class OnnxNeeds:
    """The version of the file format, and that of the operators of each domain."""

    ir: int
    opsets: Mapping[str, int]

    @property
    def opset(self) -> int:
        """That of ONNX's own operators; 0 where none is used."""
        return self.opsets.get(OWN, 0)


def onnx_needs(file: Path) -> OnnxNeeds:
    """Read an ONNX file's head; weights are skipped unread.

    Raises:
        ModelError: It is no ONNX file, or a damaged one.
    """
    try:
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            model = Message(data, 0, len(data))
            opsets = {
                entry.text(_DOMAIN) or OWN: max(entry.numbers(_VERSION), default=1)
                for entry in model.messages(_OPSET_IMPORT)
            }
            return OnnxNeeds(max(model.numbers(_IR_VERSION), default=0), opsets)
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be read as an ONNX file: {error}") from error


def tiny_model(*, opset: int, ir: int) -> bytes:
    """An ONNX file that gives back one number, stamped with these versions."""
    shape = _field(2, _field(1, _number(1, 1)))
    value_type = _field(1, _number(1, 1) + shape)
    ends = [_field(1, name) + _field(2, value_type) for name in (b"x", b"y")]
    node = _field(1, b"x") + _field(2, b"y") + _field(4, b"Identity")
    graph = _field(1, node) + _field(2, b"tiny") + _field(11, ends[0]) + _field(12, ends[1])
    return (
        _number(_IR_VERSION, ir)
        + _field(_GRAPH, graph)
        + _field(_OPSET_IMPORT, _field(_DOMAIN, b"") + _number(_VERSION, opset))
    )


def _number(field: int, value: int) -> bytes:
    return bytes([field << 3, value])


def _field(field: int, content: bytes) -> bytes:
    return bytes([field << 3 | 2, len(content)]) + content
