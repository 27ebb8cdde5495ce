"""Whether a running server is the release: its names, versions and limits, its errors, and its vectors.

    goldens of every encoder ─▶ the server: alone, many at once, in batches, in reverse ─▶ stored vectors

Rows that are right alone and wrong among others are a fault that a server has and a model has not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from embedmill.errors import ModelError, ServerDenied, ServerUnavailable
from embedmill.gates.alike import Tolerance, compare, search_alike
from embedmill.gates.graph import graph_embeds
from embedmill.model import ModelPackage, canonical_columns
from embedmill.model.goldens import goldens_file
from embedmill.model.goldens import read_goldens as read_package_goldens
from embedmill.model.raw_tensors import OUTPUT, Tensors, field_tensors, tensors_of
from embedmill.release.goldens import VECTOR, read_goldens, spread
from embedmill.runtimes import TensorSpec
from embedmill.runtimes.remote.fields.base import MODEL, NUMBER, RELEASE, Asked
from embedmill.spec.parity import EncoderParity, ParityCheck, ParityReport
from embedmill.spec.serving import served_model
from embedmill.words import counted

if TYPE_CHECKING:
    import pyarrow as pa

    from embedmill.release.reader import Release
    from embedmill.runtimes.remote.fields.base import Refusal, Told
    from embedmill.types import Rows, Vectors

ALONE = 16
"""Rows that are asked by themselves, one after another."""
TOGETHER = 64
"""Rows that are asked by themselves, many at once: a server puts them into one batch."""
IN_FLIGHT = 8
BATCH = 32
"""Rows of a request, where the server names no limit."""
OTHER_VERSION = 1_000_003
OTHER_MODEL = "embedmill-no-such-model"


class Embeds(Protocol):
    """A running server, however it is asked: `runtimes.remote.fields.asking.AskedServer`, or a fake."""

    @property
    def url(self) -> str:
        """Where it is, without credentials."""
        ...

    @property
    def protocol(self) -> str:
        """What it speaks."""
        ...

    @property
    def versioned(self) -> bool:
        """Whether requests name the version that they want."""
        ...

    def describe(self, asked: Asked) -> Told:
        """What the server says of a model."""
        ...

    def embed(self, asked: Asked, requests: Sequence[Tensors], *, at_once: int = 1) -> list[npt.NDArray[Any]]:
        """The output of each request, in order; so many are in flight at once."""
        ...

    def refusal(self, asked: Asked, tensors: Tensors) -> Refusal | None:
        """What the server says of a request that it should refuse; None where it answers it."""
        ...


@dataclass(frozen=True)
class Known:
    """Rows with the vectors that they must have, float32[N, D]."""

    rows: pa.RecordBatch
    stored: Vectors

    def take(self, chosen: Rows) -> Known:
        """Some of them, in that order."""
        return Known(self.rows.take(chosen), self.stored[chosen])


def verify(
    release: Release,
    number: int,
    server: Embeds,
    *,
    tolerance: Tolerance | None = None,
    source: Known | None = None,
) -> ParityReport:
    """Compare a server with a release.

    Args:
        release: What the server should serve.
        number: Its version at the server.
        server: The server.
        tolerance: What cosines are demanded; those of the model's precision by default.
        source: More rows of the encoder `item`, such as of the catalog of today.

    Raises:
        ServerUnavailable: The server gives no answer.
        ServerDenied: It wants a key, or another one.
    """
    started = time.monotonic()
    package = ModelPackage.open(release.model_folder)
    allowed = tolerance or Tolerance.of(package.spec.precision)
    looks = [_Look(release, package, name, number, server, allowed) for name in package.spec.encoders]
    encoders = [look.encoder(source if look.name == "item" else None) for look in looks]
    compared = any(check.cosines for each in encoders for check in each.checks)
    return ParityReport(
        passed=compared and not any(each.failed for each in encoders),
        release=release.name,
        number=number,
        url=server.url,
        protocol=server.protocol,
        server=next((look.told.server for look in looks if look.told), ""),
        encoders=tuple(encoders),
        seconds=round(time.monotonic() - started, 3),
    )


class _Look:
    """One encoder of a release, at a server."""

    def __init__(
        self,
        release: Release,
        package: ModelPackage,
        name: str,
        number: int,
        server: Embeds,
        tolerance: Tolerance,
    ) -> None:
        self.release, self.package, self.name, self.server = release, package, name, server
        self.inputs, self.tolerance = package.inputs(name), tolerance
        self.told: Told | None = None
        output = TensorSpec(OUTPUT, "float32", (None, release.content.dimension))
        self.asked = Asked(served_model(release.content.pipeline.name, name), number, output)

    def encoder(self, source: Known | None) -> EncoderParity:
        """All checks; those that need an answer end at the first that gets none."""
        if self.server.protocol == "openai" and self.inputs.text_field is None:
            reads = ", ".join(self.inputs.fields)
            return self._parity([], f"reads {reads}, not one text, and the protocol has only texts")
        checks: list[ParityCheck] = []
        try:
            for check in self._checks(source):
                checks.append(check)
        except (ServerUnavailable, ServerDenied):  # neither says anything of the release
            raise
        except ModelError as error:
            checks.append(ParityCheck(check="answers", passed=False, message=str(error)))
        return self._parity(checks)

    def _parity(self, checks: Sequence[ParityCheck], skipped: str = "") -> EncoderParity:
        return EncoderParity(encoder=self.name, model=self.asked.model, checks=tuple(checks), skipped=skipped)

    def _checks(self, source: Known | None) -> Iterator[ParityCheck]:
        told = self.server.describe(self.asked)
        graph = graph_embeds(self.server, self.package, self.name, self.asked, told)
        if graph is not None:
            self.server, told = graph, graph.describe(self.asked)
        self.told = told
        yield self._release(told)
        if told.inputs is not None and told.outputs is not None:
            yield self._metadata(told.inputs, told.outputs)
        known = self._goldens()
        if known is None:
            yield ParityCheck(check="goldens", passed=False, message="there are none: nothing can be shown")
            return
        yield from self._vectors(known, told)
        if source is not None:
            yield self._compared("catalog", source, lambda: self._batches(source, self._batch(told)))
        yield from self._refusals(known, told)

    def _release(self, told: Told) -> ParityCheck:
        """What the server itself says that it has."""
        content = self.release.content
        wanted = {RELEASE: self.release.name, NUMBER: str(self.asked.version), MODEL: content.package_digest}
        other = [name for name, value in told.labels.items() if value != wanted[name]]
        if other:
            name = other[0]
            message = f"the server says {name} {told.labels[name]}, and the release has {wanted[name]}"
            return ParityCheck(check="release", passed=False, message=message)
        said = f"release {self.release.name}" if RELEASE in told.labels else "the server names no release"
        at = f", version {self.asked.version}" if self.server.versioned else ""
        return ParityCheck(check="release", passed=True, message=f"{said}{at}")

    def _metadata(
        self, inputs: dict[str, TensorSpec] | Any, outputs: dict[str, TensorSpec] | Any
    ) -> ParityCheck:
        wanted = field_tensors(self.inputs)
        wrong = [f"no input {name!r}" for name in wanted if name not in inputs]
        wrong += [
            f"an input {name!r}, which the encoder does not read" for name in inputs if name not in wanted
        ]
        wrong += [
            f"input {name!r} of {inputs[name].dtype}, not {spec.dtype}"
            for name, spec in wanted.items()
            if name in inputs and not _alike(inputs[name].dtype, spec.dtype)
        ]
        output = outputs.get(OUTPUT)
        if output is None:
            wrong.append(f"no output {OUTPUT!r}: there is {', '.join(map(str, outputs.values()))}")
        elif output.dtype != "float32" or output.shape[-1] not in {self.asked.output.shape[-1], None}:
            wrong.append(f"an output {output}, not {self.asked.output}")
        message = "; ".join(wrong) or f"inputs {', '.join(wanted)}, output {self.asked.output}"
        return ParityCheck(check="metadata", passed=not wrong, message=message)

    def _goldens(self) -> Known | None:
        """Those that say something: a server may refuse what has nothing to embed."""
        known = self._all_goldens()
        if known is None:
            return None
        _, empty = canonical_columns(self.inputs, known.rows)
        there = np.flatnonzero(~empty)
        return known.take(there) if len(there) else None

    def _all_goldens(self) -> Known | None:
        """Those of the release, else of its model package: as a server proves itself."""
        for entry in self.release.content.goldens:
            if entry.path.startswith(f"goldens/{self.name}.") and entry.rows:
                table = read_goldens(self.release.folder / entry.path)
                rows = table.select(list(self.inputs.fields)).combine_chunks().to_batches()[0]
                stored = np.stack(table.column(VECTOR).to_numpy()).astype(np.float32)
                return Known(rows, stored)
        file = goldens_file(self.package, self.name)
        return Known(*read_package_goldens(file)) if file.is_file() else None

    def _vectors(self, known: Known, told: Told) -> Iterator[ParityCheck]:
        batch = self._batch(told)
        alone = known.take(spread(len(known.stored), ALONE))
        yield self._compared("alone", alone, lambda: self._singles(alone, 1))
        some = known.take(spread(len(known.stored), TOGETHER))
        yield self._compared("at once", some, lambda: self._singles(some, IN_FLIGHT))
        found: list[Vectors] = []
        yield self._compared("in batches", known, lambda: self._batches(known, batch), found)
        reverse = known.take(np.arange(len(known.stored))[::-1])
        yield self._compared("in reverse", reverse, lambda: self._batches(reverse, batch))
        if found and np.isfinite(found[0]).all() and self.release.content.segments:
            yield search_alike(self.release, found[0], known.stored)

    def _compared(
        self, name: str, known: Known, embed: Callable[[], Vectors], found: list[Vectors] | None = None
    ) -> ParityCheck:
        """Embed and compare; `found` gets the vectors, where they are such."""
        try:
            vectors = embed()
        except _Misshapen as error:
            return ParityCheck(check=name, passed=False, message=str(error))
        if found is not None:
            found.append(vectors)
        return compare(name, vectors, known.stored, self.tolerance)

    def _refusals(self, known: Known, told: Told) -> Iterator[ParityCheck]:
        tensors = next(self._tensors(known.take(np.zeros(1, np.int64))))[1]
        unknown = Asked(OTHER_MODEL, self.asked.version, self.asked.output)
        yield _refused("unknown model", self.server.refusal(unknown, tensors))
        if self.server.versioned:
            other = Asked(self.asked.model, self.asked.version + OTHER_VERSION, self.asked.output)
            yield _refused("other version", self.server.refusal(other, tensors))
        yield self._limit(known, told)

    def _limit(self, known: Known, told: Told) -> ParityCheck:
        """More rows than are allowed are refused, or all answered: never some of them."""
        most = told.most_rows or self.release.content.pipeline.serving.max_inputs
        many = known.take(np.zeros(most + 1, np.int64))
        tensors = next(self._tensors(many))[1]
        refusal = self.server.refusal(self.asked, tensors)
        if refusal is not None:
            return _refused(f"limit of {most} rows", refusal)
        parts = [(0, np.arange(most + 1), tensors)]
        return self._compared(f"limit of {most} rows", many, lambda: self._embedded(parts, most + 1, 1))

    def _batch(self, told: Told) -> int:
        most = told.most_rows or self.release.content.pipeline.serving.max_inputs
        return min(BATCH, most)

    def _singles(self, known: Known, at_once: int) -> Vectors:
        parts = [(row, *group) for row in range(len(known.stored)) for group in self._tensors(known, row, 1)]
        return self._embedded(parts, len(known.stored), at_once)

    def _batches(self, known: Known, size: int) -> Vectors:
        starts = range(0, len(known.stored), size)
        parts = [(start, *group) for start in starts for group in self._tensors(known, start, size)]
        return self._embedded(parts, len(known.stored), 1)

    def _embedded(self, parts: Sequence[tuple[int, Rows, Tensors]], count: int, at_once: int) -> Vectors:
        """float32[count, D] of requests, each with the place of its first row, and its rows from there."""
        answers = self.server.embed(self.asked, [tensors for *_, tensors in parts], at_once=at_once)
        dimension = self.release.content.dimension
        found: Vectors = np.zeros((count, dimension), np.float32)
        for answer, (start, rows, _) in zip(answers, parts, strict=True):
            found[rows + start] = _checked(answer, len(rows), dimension)
        return found

    def _tensors(
        self, known: Known, start: int = 0, count: int | None = None
    ) -> Iterator[tuple[Rows, Tensors]]:
        return tensors_of(self.inputs, known.rows.slice(start, count))


class _Misshapen(Exception):
    """An answer that is no vector for each row."""


def _checked(answer: npt.NDArray[Any], rows: int, dimension: int) -> Vectors:
    if answer.shape != (rows, dimension) or answer.dtype.kind != "f":
        raise _Misshapen(
            f"answered {answer.dtype.name}{list(answer.shape)} for {counted(rows, 'row')}, and vectors are "
            f"float32[{rows}, {dimension}]"
        )
    return answer.astype(np.float32, copy=False)


def _alike(dtype: str, wanted: str) -> bool:
    """float32 is enough for a number: it is what most models compute with."""
    return dtype == wanted or (wanted == "float64" and dtype == "float32")


def _refused(name: str, refusal: Refusal | None) -> ParityCheck:
    if refusal is None:
        return ParityCheck(check=name, passed=False, message="was answered as if it were right")
    if not refusal.well_formed:
        message = f"answered {refusal.words}: no error with a 4xx status as the protocol has them"
        return ParityCheck(check=name, passed=False, message=message)
    return ParityCheck(check=name, passed=True, message=f"refused: {refusal.words}")
