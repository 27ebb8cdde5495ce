"""Goldens of a package: a few raw inputs with their vectors, by which every runtime proves itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from embedmill.errors import ModelError
from embedmill.types import Vectors

if TYPE_CHECKING:
    from embedmill.model.encoder import Encoder
    from embedmill.model.package import ModelPackage

LOWEST_COSINE = 0.9999
"""Below it a golden has moved: one model, precision and preprocessing stay above it on any hardware."""
TEXTS = (
    "a",
    "?",
    "red apple",
    "Running shoes",
    "RUNNING SHOES",
    "Stainless steel water bottle, 750 ml, double wall, keeps drinks cold for 24 hours",
    "crème brûlée – naïve café",
    "İstanbul'dan kırmızı ayakkabı",
    "赤いりんご 🍎",
    "تفاحة حمراء",
    "x" * 300,
    "The quick brown fox jumps over the lazy dog. " * 40,
)
"""What imported text encoders are tried on: one token, long beyond truncation, accents, other scripts."""


def goldens_file(package: ModelPackage, encoder: str) -> Path:
    """Where a package keeps the goldens of an encoder."""
    return package.root / "goldens" / f"{encoder}.jsonl"


def write_goldens(file: Path, rows: pa.RecordBatch, vectors: Vectors) -> None:
    """One JSON object a line: `fields`, the raw inputs, and their `vector`."""
    file.parent.mkdir(exist_ok=True)
    lines = (
        json.dumps({"fields": fields, "vector": vector}, ensure_ascii=False)
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
        rows = pa.RecordBatch.from_pylist([line["fields"] for line in lines])
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise ModelError(f"{file}: is no goldens file, or a damaged one: {error}") from error
    if vectors.ndim != 2 or not len(vectors):
        raise ModelError(f"{file}: has no vectors")
    return rows, vectors


def check_goldens(encoder: Encoder, file: Path) -> float:
    """Embed the goldens of a file again: the lowest cosine between a vector and the stored one.

    Raises:
        ModelError: The file is damaged, or a golden moved: its cosine is below 0.9999.
    """
    rows, stored = read_goldens(file)
    if stored.shape[1] != encoder.dimension:
        raise ModelError(
            f"{file}: vectors of {stored.shape[1]} values, and the model makes {encoder.dimension}"
        )
    cosines = cosines_of(encoder.encode(rows).vectors_ND, stored)
    worst = int(np.argmin(cosines))
    if not cosines[worst] >= LOWEST_COSINE:
        moved = int((~(cosines >= LOWEST_COSINE)).sum())
        raise ModelError(
            f"{file}: {encoder.runtime.name}: {moved} of {len(cosines)} goldens moved; the worst, "
            f"line {worst + 1}, has a cosine of {cosines[worst]:.6f}, below {LOWEST_COSINE}",
            hint="weights, tokenizer or a library are not those of the import; import the model again",
        )
    return float(cosines[worst])


def cosines_of(left: Vectors, right: Vectors) -> npt.NDArray[np.float64]:
    """Of rows, pairwise; two zero vectors agree."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    same = (a == b).all(axis=1)
    cosines: npt.NDArray[np.float64] = np.where(
        same, 1.0, (a * b).sum(axis=1) / np.where(norms > 0, norms, 1.0)
    )
    return cosines
