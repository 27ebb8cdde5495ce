"""Encoders whose runtime takes its time, or hangs, or dies, when a test says so: all else of them is real."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy.typing as npt

from embedmill.model import Encoder, ModelPackage
from embedmill.release.reader import Release
from embedmill.runtimes import Runtime, TensorSpec
from embedmill.types import Vectors


class Killed(BaseException):
    """What no `except Exception` stops, as when a process is told to end."""


@dataclass
class Slow(Runtime):
    """Sleeps `fixed_s + each_s * rows` before it computes; hangs while `works` is not set.

    `sleep` may let time pass that is none of the machine's.
    """

    inner: Runtime
    fixed_s: float = 0.0
    each_s: float = 0.0
    works: threading.Event = field(default_factory=threading.Event)
    fails_with: BaseException | None = None
    batches: list[int] = field(default_factory=list)
    sleep: Callable[[float], object] = time.sleep

    def __post_init__(self) -> None:
        self.works.set()

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def version(self) -> str:
        return self.inner.version

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        return self.inner.inputs

    @property
    def outputs(self) -> Mapping[str, TensorSpec]:
        return self.inner.outputs

    @property
    def output(self) -> TensorSpec:
        return self.inner.output

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> Vectors:
        self.works.wait()
        if self.fails_with is not None:
            raise self.fails_with
        rows = len(next(iter(feeds.values())))
        self.batches.append(rows)
        self.sleep(self.fixed_s + self.each_s * rows)
        return self.inner.run(feeds)


def slow_encoder(release: Release, *, fixed_s: float = 0.0, each_s: float = 0.0) -> tuple[Encoder, Slow]:
    """The query encoder of a release, slower."""
    encoder = Encoder.load(ModelPackage.open(release.model_folder), "query_text", batch_tokens=100_000)
    slow = Slow(encoder.runtime, fixed_s, each_s)
    return replace(encoder, runtime=slow), slow
