"""`model check`: load every declared encoder, embed its goldens again, and compare."""

from __future__ import annotations

import time
from dataclasses import dataclass

from embedmill.model.encoder import Encoder
from embedmill.model.goldens import check_goldens, goldens_file, read_goldens
from embedmill.model.package import ModelPackage
from embedmill.runtimes import TensorSpec


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
        rows, _ = read_goldens(file)
        count, lowest = rows.num_rows, check_goldens(encoder, file)
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
