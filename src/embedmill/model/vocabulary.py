"""A vocabulary file: the values that a model knows, one a line, and their indices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from embedmill.errors import ModelError

MOST_VALUES = 1_000_000
MOST_BYTES = 256 << 20
UNKNOWN = -1


@dataclass(frozen=True)
class Vocabulary:
    """Distinct values in the order of their file, as large_string[V]."""

    values: pa.Array

    @classmethod
    def load(cls, file: Path) -> Vocabulary:
        """Read a UTF-8 file; lines end with LF or CRLF. An empty line keeps its place, and is no value.

        Raises:
            ModelError: It is empty, too large, not UTF-8, or has a value twice.
        """
        if file.stat().st_size > MOST_BYTES:
            raise ModelError(f"{file}: a vocabulary of more than {MOST_BYTES >> 20} MiB is refused")
        try:
            lines = file.read_bytes().decode("utf-8-sig").removesuffix("\n").split("\n")
        except UnicodeDecodeError as error:
            raise ModelError(f"{file}: is not UTF-8 text: {error.reason} at byte {error.start}") from error
        values = [line.removesuffix("\r") for line in lines]
        if not any(values):
            raise ModelError(f"{file}: the vocabulary is empty", hint="write one value a line")
        if len(values) > MOST_VALUES:
            raise ModelError(f"{file}: has {len(values)} values, and {MOST_VALUES} are the most")
        _refuse_doubled(values, file)
        return cls(pa.array(values, pa.large_string()))

    def __len__(self) -> int:
        """Lines of the file."""
        return len(self.values)

    def positions(self, values: pa.Array) -> npt.NDArray[np.int64]:
        """int64[N]: lines of the values, from 0; -1 where the vocabulary lacks them, or they are null."""
        found = pc.fill_null(pc.index_in(values, self.values, skip_nulls=True), UNKNOWN)
        positions: npt.NDArray[np.int64] = found.to_numpy(zero_copy_only=False).astype(np.int64)
        return positions


def _refuse_doubled(values: list[str], file: Path) -> None:
    """Of two equal lines nobody knows which index was meant."""
    if len(set(values)) == len(values):
        return
    lines: dict[str, int] = {}
    for number, value in enumerate(values, 1):
        if value in lines:
            raise ModelError(
                f"{file}:{number}: the value {value[:60]!r} is in line {lines[value]} already",
                hint="indices are those of lines; export the vocabulary again",
            )
        lines[value] = number
