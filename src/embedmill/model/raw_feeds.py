"""Feeds of raw inputs, which the model itself takes apart: texts and files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from embedmill.model.columns import file_column
from embedmill.model.feeding import (
    STRING,
    Feeds,
    Ready,
    dtype_problems,
    one_a_row,
    one_a_row_problems,
    present,
    rejections,
    shape_problems,
)
from embedmill.model.inputs import empty_rows, render, rendered
from embedmill.runtimes import TensorSpec
from embedmill.spec import BytesInput, StringInput
from embedmill.types import Reason, Rejection, Rows

CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True)
class StringFeed:
    """Feeds the text itself, as Python strings in an object array."""

    target: TensorSpec
    spec: StringInput

    @property
    def targets(self) -> Sequence[TensorSpec]:
        """See `Feed`."""
        return [self.target]

    def problems(self) -> Iterator[str]:
        """See `Feed`."""
        yield from one_a_row_problems(self.target, "texts", [STRING])

    def prepare(self, rows: pa.RecordBatch) -> Ready:
        """See `Feed`."""
        values = rendered(self.spec.template, rows)
        rejected: dict[int, Rejection] = {}
        if self.spec.missing == "reject":
            why = Rejection(Reason.VALUE_MISSING, f"columns {', '.join(self.spec.fields)} have no text")
            rejected = rejections(empty_rows(self.spec, rows), lambda _: why)
        return Ready(
            lambda batch: {self.target.name: one_a_row(values[batch], self.target)},
            rejected,
            self._lengths(rows),
        )

    def _lengths(self, rows: pa.RecordBatch) -> npt.NDArray[np.int64] | None:
        """About how many tokens each text is: int64[N]."""
        if self.spec.length_hint is None:
            return None
        texts = render(self.spec.template, rows)
        if self.spec.length_hint == "words":
            tokens = pc.count_substring_regex(texts, r"\S+")
        else:
            tokens = pc.divide(pc.utf8_length(texts), CHARACTERS_PER_TOKEN)
        found: npt.NDArray[np.int64] = tokens.to_numpy(zero_copy_only=False).astype(np.int64) + 1
        return found if self.spec.max_length is None else np.minimum(found, self.spec.max_length)


@dataclass(frozen=True)
class BytesFeed:
    """Feeds files: as Python bytes in an object array, or as uint8 padded with zeros.

    `text_only`: the runtime's strings are texts, and would change bytes.
    """

    target: TensorSpec
    spec: BytesInput
    lengths: TensorSpec | None
    text_only: bool

    @property
    def targets(self) -> Sequence[TensorSpec]:
        """See `Feed`."""
        return present(self.target, self.lengths)

    def problems(self) -> Iterator[str]:
        """See `Feed`."""
        if self.target.dtype == STRING and not self.text_only:
            yield from one_a_row_problems(self.target, "files", [STRING])
        else:
            yield from shape_problems(self.target, "files", [(None,)])
            yield from dtype_problems(self.target, "files in this runtime", ["uint8"])
        if self.lengths is not None:
            yield from one_a_row_problems(self.lengths, "lengths", ["int64", "int32"])

    def prepare(self, rows: pa.RecordBatch) -> Ready:
        """See `Feed`."""
        files = file_column(rows, self.spec.field, "bytes")
        rejected: dict[int, Rejection] = {}
        if self.spec.missing == "reject":
            why = Rejection(Reason.VALUE_MISSING, f"column {self.spec.field!r} has no file")
            rejected = rejections(empty_rows(self.spec, rows), lambda _: why)
        if self._width is not None:
            sizes = pc.fill_null(pc.binary_length(files), 0).to_numpy(zero_copy_only=False)
            rejected |= rejections(sizes > self._width, lambda row: self._too_long(int(sizes[row])))
        return Ready(lambda batch: self._feed(files, batch), rejected)

    @property
    def _width(self) -> int | None:
        """Bytes that the model's input has room for, where that is fixed."""
        said = self.target.shape[1] if self.target.dtype != STRING and len(self.target.shape) > 1 else None
        return said if isinstance(said, int) else None

    def _too_long(self, size: int) -> Rejection:
        detail = (
            f"column {self.spec.field!r}: {size} bytes, and input {self.target.name!r} takes {self._width}"
        )
        return Rejection(Reason.VALUE_INVALID, detail)

    def _feed(self, files: pa.Array, rows: Rows) -> Feeds:
        found = [content or b"" for content in files.take(pa.array(rows)).to_pylist()]
        made = _objects(found) if self.target.dtype == STRING else self._padded(found)
        feeds = {self.target.name: one_a_row(made, self.target) if made.ndim == 1 else made}
        if self.lengths is not None:
            feeds[self.lengths.name] = one_a_row(np.array(list(map(len, found))), self.lengths)
        return feeds

    def _padded(self, files: Sequence[bytes]) -> npt.NDArray[np.uint8]:
        width = self._width or max(1, *map(len, files))
        made = np.zeros((len(files), width), np.uint8)
        for at, content in enumerate(files):
            made[at, : len(content)] = np.frombuffer(content, np.uint8)
        return made


def _objects(values: Sequence[bytes]) -> npt.NDArray[Any]:
    """Numpy would take bytes as a type of fixed width, which loses zeros at the end."""
    made = np.empty(len(values), np.object_)
    made[:] = values
    return made
