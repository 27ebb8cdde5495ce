"""Goldens of a package: a few raw inputs with their vectors, by which every runtime proves itself."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from embedmill.errors import ModelError
from embedmill.model.package import GOLDENS
from embedmill.types import Vectors

if TYPE_CHECKING:
    from embedmill.model.encoder import Encoder
    from embedmill.model.package import ModelPackage

LOWEST_COSINE = 0.9999
"""Below it a golden has moved: one model, precision and preprocessing stay above it on any hardware."""
OF_FIRST = "weights, tokenizer or a library are not those of the import; import the model again"
OF_ANOTHER = (
    "the first of `runtimes` made them at the import: this one has another model or another output, "
    "or files or a library are others since; mend `runtimes`, or import the model again"
)
BYTES = "base64"
"""The key of an object that stands for bytes, which JSON has not."""


def goldens_file(package: ModelPackage, encoder: str) -> Path:
    """Where a package keeps the goldens of an encoder."""
    return package.root / GOLDENS / f"{encoder}.jsonl"


def write_goldens(file: Path, rows: pa.RecordBatch, vectors: Vectors) -> None:
    """One JSON object a line: `fields`, the raw inputs, and their `vector`; bytes are in Base64."""
    file.parent.mkdir(exist_ok=True)
    lines = (
        json.dumps({"fields": _written(fields), "vector": vector}, ensure_ascii=False)
        for fields, vector in zip(rows.to_pylist(), vectors.tolist(), strict=True)
    )
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read_goldens(file: Path) -> tuple[pa.RecordBatch, Vectors]:
    """Raw inputs and float32[N, D] vectors of a goldens file.

    Raises:
        ModelError: It is damaged.
    """
    try:
        lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        vectors = np.array([line["vector"] for line in lines], np.float32)
        rows = pa.RecordBatch.from_pylist([_read(line["fields"]) for line in lines])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        raise ModelError(f"{file}: is no goldens file, or a damaged one: {error}") from error
    if vectors.ndim != 2 or not len(vectors):
        raise ModelError(f"{file}: has no vectors")
    return rows, vectors


def _written(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {BYTES: base64.b64encode(value).decode("ascii")} if isinstance(value, bytes) else value
        for name, value in fields.items()
    }


def _read(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: base64.b64decode(value[BYTES], validate=True) if isinstance(value, dict) else value
        for name, value in fields.items()
    }


@dataclass(frozen=True)
class Comparison:
    """What a runtime makes of the goldens of a file, beside what is stored: a cosine for each."""

    file: Path
    runtime: str
    cosines_N: npt.NDArray[np.float64]
    is_first: bool = True
    """Whether the runtime is the package's first, which made the goldens."""

    @property
    def lowest(self) -> float:
        """The worst golden's cosine."""
        return float(self.cosines_N.min())

    @property
    def moved_count(self) -> int:
        """Goldens whose cosine is below 0.9999, or is none."""
        return int((~(self.cosines_N >= LOWEST_COSINE)).sum())

    @property
    def moved(self) -> ModelError | None:
        """The error that goldens are, of which a cosine is below 0.9999; None where none is."""
        found = self.cosines_N
        worst = int(np.argmin(found))
        if found[worst] >= LOWEST_COSINE:
            return None
        return ModelError(
            f"{self.file}: {self.runtime}: {self.moved_count} of {len(found)} goldens moved; the worst, "
            f"line {worst + 1}, has a cosine of {found[worst]:.6f}, below {LOWEST_COSINE}",
            hint=OF_FIRST if self.is_first else OF_ANOTHER,
        )


def check_goldens(encoder: Encoder, file: Path) -> None:
    """Embed the goldens of a file again, and compare them with the stored ones.

    Raises:
        ModelError: The file is damaged, or a golden moved: its cosine is below 0.9999.
    """
    error = compare_goldens(encoder, file).moved
    if error is not None:
        raise error


def compare_goldens(encoder: Encoder, file: Path) -> Comparison:
    """Embed the goldens of a file again.

    Raises:
        ModelError: The file is damaged, or has vectors of another dimension.
    """
    return compared(encoder, file, *fitting_goldens(file, encoder.dimension))


def fitting_goldens(file: Path, dimension: int) -> tuple[pa.RecordBatch, Vectors]:
    """Raw inputs and float32[N, D] vectors of a goldens file, for a model that makes D values.

    Raises:
        ModelError: The file is damaged, or has vectors of another dimension.
    """
    rows, stored = read_goldens(file)
    if stored.shape[1] != dimension:
        raise ModelError(f"{file}: vectors of {stored.shape[1]} values, and the model makes {dimension}")
    return rows, stored


def compared(encoder: Encoder, file: Path, rows: pa.RecordBatch, stored: Vectors) -> Comparison:
    """Embed goldens again that were read from `file`."""
    found = cosines(encoder.encode(rows).vectors_ND, stored)
    return Comparison(file, encoder.runtime.name, found, encoder.is_first)


def cosines(left: Vectors, right: Vectors) -> npt.NDArray[np.float64]:
    """Of rows, pairwise; two zero vectors agree."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    same = (a == b).all(axis=1)
    found: npt.NDArray[np.float64] = np.where(
        same, 1.0, (a * b).sum(axis=1) / np.where(norms > 0, norms, 1.0)
    )
    return found
