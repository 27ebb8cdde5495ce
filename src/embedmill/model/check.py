"""`model check`: load every declared encoder, embed its goldens again, and compare."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from embedmill.errors import ModelError
from embedmill.model.encoder import Encoder
from embedmill.model.importing import goldens_file
from embedmill.model.package import ModelPackage
from embedmill.runtimes import TensorSpec
from embedmill.types import Vectors

LOWEST_COSINE = 0.9999
"""Below it a golden has moved: one model, precision and preprocessing stay above it on any hardware."""


@dataclass(frozen=True)
class EncoderReport:
    """What `check_package` found of one encoder; `lowest_cosine` and `rows_per_second` need goldens."""

    name: str
    digest: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    dimension: int
    goldens: int
    lowest_cosine: float | None
    rows_per_second: float | None


@dataclass(frozen=True)
class CheckReport:
    """What `check_package` found."""

    name: str
    package_digest: str
    encoders: tuple[EncoderReport, ...]


def check_package(package: ModelPackage) -> CheckReport:
    """Load every encoder, embed the goldens that the package has for it, and compare.

    Raises:
        ModelError: An encoder does not load, or a golden moved: its cosine is below 0.9999.
    """
    reports = tuple(_check(package, name) for name in package.spec.encoders)
    return CheckReport(package.spec.name, package.package_digest(), reports)


def _check(package: ModelPackage, name: str) -> EncoderReport:
    encoder = Encoder.load(package, name)
    file = goldens_file(package, name)
    count, lowest, speed = 0, None, None
    if file.is_file():
        rows, stored = read_goldens(file)
        count, lowest = rows.num_rows, _lowest_cosine(encoder, rows, stored, file)
        started = time.perf_counter()
        encoder.encode(rows)
        speed = count / (time.perf_counter() - started)
    return EncoderReport(
        name=name,
        digest=package.encoder_digest(name),
        inputs=tuple(encoder.runtime.inputs.values()),
        outputs=tuple(encoder.runtime.outputs.values()),
        dimension=encoder.dimension,
        goldens=count,
        lowest_cosine=lowest,
        rows_per_second=speed,
    )


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


def _lowest_cosine(encoder: Encoder, rows: pa.RecordBatch, stored: Vectors, file: Path) -> float:
    if stored.shape[1] != encoder.dimension:
        raise ModelError(
            f"{file}: vectors of {stored.shape[1]} values, and the model makes {encoder.dimension}"
        )
    cosines = _cosines(encoder.encode(rows).vectors_ND, stored)
    worst = int(np.argmin(cosines))
    if not cosines[worst] >= LOWEST_COSINE:
        moved = int((~(cosines >= LOWEST_COSINE)).sum())
        raise ModelError(
            f"{file}: {moved} of {len(cosines)} goldens moved; the worst, line {worst + 1}, "
            f"has a cosine of {cosines[worst]:.6f}, below {LOWEST_COSINE}",
            hint="weights, tokenizer or a library are not those of the import; import the model again",
        )
    return float(cosines[worst])


def _cosines(left: Vectors, right: Vectors) -> npt.NDArray[np.float64]:
    """Of rows, pairwise; two zero vectors agree."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    same = (a == b).all(axis=1)
    cosines: npt.NDArray[np.float64] = np.where(
        same, 1.0, (a * b).sum(axis=1) / np.where(norms > 0, norms, 1.0)
    )
    return cosines
