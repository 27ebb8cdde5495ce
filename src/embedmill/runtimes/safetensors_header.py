"""Checks a safetensors file before any library parses it: https://huggingface.co/docs/safetensors#format.

The file says how long its header is, and the header says where each tensor lies. Either may lie.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedmill.errors import ModelError
from embedmill.runtimes.formats import refuse_pickle

LARGEST_HEADER = 16 << 20
MOST_TENSORS = 100_000
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4, "C64": 64,
}  # fmt: skip


def check_safetensors(file: Path) -> None:
    """Let a file pass whose tensors lie one after another in it, each as long as its shape says.

    Raises:
        ModelError: The file is a pickle, is damaged, or has an absurd header.
    """
    refuse_pickle(file)
    try:
        header, data_bytes = _header(file)
        tensors = {name: tensor for name, tensor in header.items() if name != "__metadata__"}
        if len(tensors) > MOST_TENSORS:
            raise ValueError(f"it has {len(tensors):,} tensors, more than {MOST_TENSORS:,}")
        _check_places(tensors, data_bytes)
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"{file}: cannot be read as float32 weights: no safetensors file, or a damaged one: {error}"
        ) from error


def _header(file: Path) -> tuple[dict[str, Any], int]:
    """The header, and how many bytes lie behind it."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > min(LARGEST_HEADER, size - 8):
            raise ValueError(f"it says that its header has {length:,} bytes")
        header = json.loads(stream.read(length))
    if not isinstance(header, dict):
        raise TypeError("its header is no mapping")
    return header, size - 8 - length


def _check_places(tensors: Mapping[str, Mapping[str, Any]], data_bytes: int) -> None:
    """No holes, no overlaps, no end beyond the file's."""
    expected = 0
    for start, end, name in sorted((*_place(tensor), name) for name, tensor in tensors.items()):
        if start != expected:
            raise ValueError(f"tensor {name[:80]!r} begins at byte {start}, and not at {expected}")
        expected = end
    if expected != data_bytes:
        raise ValueError(f"its tensors end at byte {expected:,} of {data_bytes:,}")


def _place(tensor: Mapping[str, Any]) -> tuple[int, int]:
    start, end = tensor["data_offsets"]
    shape = tensor["shape"]
    if not all(isinstance(size, int) and size >= 0 for size in (start, end, *shape)):
        raise ValueError("a size is no natural number")
    if (end - start) * 8 != math.prod(shape) * BITS[tensor["dtype"]]:
        raise ValueError(f"{end - start:,} bytes are not {tensor['dtype']}{shape}"[:200])
    return start, end
