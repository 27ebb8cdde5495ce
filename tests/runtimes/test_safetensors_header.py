"""Safetensors files whose header lies are refused before a library parses them."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from embedmill.errors import ModelError
from embedmill.runtimes.safetensors_header import LARGEST_HEADER, MOST_TENSORS, check_safetensors


def tensor(start: int, end: int, *, shape: Any = None, dtype: str = "F32") -> dict[str, Any]:
    return {
        "dtype": dtype,
        "shape": [(end - start) // 4] if shape is None else shape,
        "data_offsets": [start, end],
    }


def written(file: Path, header: Any, data: bytes, *, length: int | None = None) -> Path:
    text = json.dumps(header).encode()
    file.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return file


def test_what_the_library_writes_passes(tmp_path: Path) -> None:
    weights: dict[str, Any] = {
        "a": np.ones((3, 4), np.float32),
        "b": np.zeros((0, 2), np.float16),
        "c": np.ones(5, np.int8),
    }
    safetensors.numpy.save_file(weights, tmp_path / "m.safetensors", metadata={"format": "pt"})
    check_safetensors(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"a": tensor(0, 16), "b": tensor(8, 16)}, "begins at byte 8, and not at 16"),
        ({"a": tensor(0, 8), "b": tensor(12, 16)}, "begins at byte 12, and not at 8"),
        ({"a": tensor(0, 32)}, "end at byte 32 of 16"),
        ({"a": tensor(0, 8)}, "end at byte 8 of 16"),
        ({"a": tensor(0, 16, shape=[1 << 40, 1 << 40])}, "16 bytes are not F32"),
        ({"a": tensor(0, 16, shape=[-4])}, "no natural number"),
        ({"a": tensor(16, 0)}, "no natural number"),
        ({"a": tensor(0, 16, dtype="PICKLE")}, "PICKLE"),
        ({"a": {"dtype": "F32"}}, "data_offsets"),
        ({"a": None}, "damaged"),
        ([], "no mapping"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, header: Any, reason: str) -> None:
    file = written(tmp_path / "m.safetensors", header, bytes(16))
    with pytest.raises(ModelError, match="no safetensors file, or a damaged one") as caught:
        check_safetensors(file)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [100_000_000, LARGEST_HEADER + 1, 1 << 63, 24])
def test_a_header_that_is_too_long_is_not_read(tmp_path: Path, length: int) -> None:
    file = written(tmp_path / "m.safetensors", {}, bytes(16), length=length)
    with file.open("r+b") as stream:
        stream.truncate(
            8 + min(length, 200_000_000) if length > 100 else file.stat().st_size
        )  # a sparse file
    with pytest.raises(ModelError, match="damaged"):
        check_safetensors(file)


def test_a_million_tensors_are_refused(tmp_path: Path) -> None:
    header = {
        str(number): {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
        for number in range(MOST_TENSORS + 1)
    }
    with pytest.raises(ModelError, match="tensors, more than 100,000"):
        check_safetensors(written(tmp_path / "many.safetensors", header, b""))
    text = b"{" + b'"0123456": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}, ' * 1_000_000 + b"}"
    (tmp_path / "more.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(ModelError, match="says that its header has"):
        check_safetensors(tmp_path / "more.safetensors")


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 7, b"\xff" * 64, b"\x08" + bytes(7) + b"[" * 8, pickle.dumps([1])]
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.safetensors").write_bytes(data)
    with pytest.raises(ModelError, match=r"m\.safetensors: "):
        check_safetensors(tmp_path / "m.safetensors")
