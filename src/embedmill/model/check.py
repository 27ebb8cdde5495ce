"""`model check`: embed the goldens of every encoder again, by every runtime that it declares, and compare."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import pyarrow as pa

from embedmill.errors import DeviceUnavailable, EmbedmillError, MissingExtra, ModelError, ServerUnavailable
from embedmill.model.alone import check_alone
from embedmill.model.choosing import none_computes
from embedmill.model.encoder import Encoder
from embedmill.model.goldens import compare_goldens, goldens_file, read_goldens
from embedmill.model.outputs import said_of_output
from embedmill.model.package import ModelPackage
from embedmill.model.reduced import check_reduced, reduced_cosine
from embedmill.runtimes import TensorSpec
from embedmill.spec import RemoteRuntime, RuntimeSpec

LOG = logging.getLogger("embedmill.model")
State: TypeAlias = Literal["ok", "unavailable", "failed"]
UNAVAILABLE = (MissingExtra, DeviceUnavailable, ServerUnavailable)


@dataclass(frozen=True)
class RuntimeReport:
    """What `check_package` found of one runtime of an encoder.

    `unavailable` is one that computes nothing here, `failed` one that is damaged, does not fit, or moved
    goldens: `error` says why. `lowest_cosine` and `rows_per_second` need goldens. `reduced_cosine` is there
    where JPEGs may be decoded at a reduced scale: the lowest to vectors of whole ones. `said_of_output` is
    what `embedmill.model.outputs` says.
    """

    spec: RuntimeSpec
    state: State
    error: EmbedmillError | None
    version: str | None = None
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    lowest_cosine: float | None = None
    rows_per_second: float | None = None
    reduced_cosine: float | None = None
    said_of_output: str = ""


@dataclass(frozen=True)
class EncoderReport:
    """What `check_package` found of one encoder; its runtimes as they are declared, the reference first."""

    name: str
    digest: str
    dimension: int
    goldens: int
    runtimes: tuple[RuntimeReport, ...]


@dataclass(frozen=True)
class CheckReport:
    """What `check_package` found."""

    name: str
    package_digest: str
    encoders: tuple[EncoderReport, ...]

    @property
    def failure(self) -> EmbedmillError | None:
        """The first error of those that a package may not have; None where it is sound."""
        failed = [each for encoder in self.encoders for each in encoder.runtimes if each.state == "failed"]
        return failed[0].error if failed else None


def check_package(package: ModelPackage) -> CheckReport:
    """Load every runtime of every encoder, embed the goldens that the package has for it, and compare.

    Raises:
        ModelError: Goldens are damaged.
        MissingExtra, DeviceUnavailable, ServerUnavailable: An encoder has no runtime that computes here.
    """
    reports = tuple(_check(package, name) for name in package.spec.encoders)
    for said in dict.fromkeys(each.said_of_output for encoder in reports for each in encoder.runtimes):
        if said:
            LOG.warning("%s", said)
    return CheckReport(package.spec.name, package.package_digest(), reports)


def check_others(package: ModelPackage, name: str) -> tuple[RuntimeReport, ...]:
    """What an import finds of an encoder's runtimes beside the first, which has just made the goldens.

    A server is not asked: what it has may well follow from the package that is being made.
    """
    file = goldens_file(package, name)
    if not file.is_file():
        return ()
    rows = read_goldens(file)[0]
    others = package.spec.runtimes_for(name)[1:]
    return tuple(
        _tried(package, name, each, file, rows) for each in others if not isinstance(each, RemoteRuntime)
    )


def _check(package: ModelPackage, name: str) -> EncoderReport:
    file = goldens_file(package, name)
    rows = read_goldens(file)[0] if file.is_file() else None
    reference, *others = package.spec.runtimes_for(name)
    runtimes = [_tried(package, name, reference, file, rows)]
    runtimes += [
        _not_compared(each) if rows is None else _tried(package, name, each, file, rows) for each in others
    ]
    _require_one(package, name, runtimes)
    return EncoderReport(
        name=name,
        digest=package.encoder_digest(name),
        dimension=package.spec.dimension,
        goldens=0 if rows is None else rows.num_rows,
        runtimes=tuple(runtimes),
    )


def _require_one(package: ModelPackage, name: str, runtimes: Sequence[RuntimeReport]) -> None:
    refused = [each.error for each in runtimes if each.state == "unavailable" and each.error is not None]
    if len(refused) == len(runtimes):
        raise none_computes(package, name, refused)


def _tried(
    package: ModelPackage, name: str, spec: RuntimeSpec, file: Path, rows: pa.RecordBatch | None
) -> RuntimeReport:
    try:
        with Encoder.load(package, name, using=spec, compared=False) as encoder:
            return _measured(encoder, spec, file, rows)
    except UNAVAILABLE as error:
        return RuntimeReport(spec, "unavailable", error)
    except ModelError as error:
        return RuntimeReport(spec, "failed", error)


def _measured(encoder: Encoder, spec: RuntimeSpec, file: Path, rows: pa.RecordBatch | None) -> RuntimeReport:
    """Of an encoder that is loaded; comparing first warms it up."""
    error, lowest, speed = None, None, None
    if rows is not None:
        comparison = compare_goldens(encoder, file)
        error, lowest = comparison.moved, comparison.lowest
        started = time.perf_counter()
        together = encoder.encode(rows)
        speed = rows.num_rows / (time.perf_counter() - started)
        error = error or check_alone(encoder, rows, together)
    reduced = reduced_cosine(encoder)
    error = error or check_reduced(encoder, reduced)
    return RuntimeReport(
        spec,
        "ok" if error is None else "failed",
        error,
        version=f"{encoder.runtime.name} {encoder.runtime.version}",
        inputs=tuple(encoder.runtime.inputs.values()),
        outputs=tuple(encoder.runtime.outputs.values()),
        lowest_cosine=lowest,
        rows_per_second=speed,
        reduced_cosine=reduced,
        said_of_output=said_of_output(encoder, spec),
    )


def _not_compared(spec: RuntimeSpec) -> RuntimeReport:
    """A runtime that would have to show by goldens that it makes the reference's vectors."""
    why = DeviceUnavailable(
        f"{spec.kind}: the package has no goldens to compare it by, so that only the first runtime is used"
    )
    return RuntimeReport(spec, "unavailable", why)
