"""The seam of runtimes: named arrays in, vectors out; one implementation a file, imported when asked for."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from embedmill.errors import DeviceUnavailable, ModelError, OutOfMemory
from embedmill.spec import Precision, RuntimeSpec
from embedmill.spec.runtimes import lowest_limit
from embedmill.types import Vectors


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model.

    `dtype` is numpy's name, such as `int64`, or `string`: objects, each a `str` or `bytes`. A dimension is a
    number where the model fixes it, and a name or None where it is free.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(str(size or '?') for size in self.shape)}]"


@dataclass(frozen=True)
class Place:
    """Where and how a model is to be computed.

    `kind` is `cpu`, `cuda` or `tpu`; `index` says which of several there are; `threads` is what one `run` may
    use. `precision` is what multiplications may be rounded to: with `float32` a runtime keeps TF32 off.
    `cache` is a folder of this machine for what is compiled for the device; None: nothing is kept.
    `gpu_memory_mib` is the most memory of a GPU that may be taken there; None: as much as the model does.
    """

    kind: str
    index: int = 0
    threads: int = 1
    precision: Precision = "float32"
    cache: Path | None = None
    gpu_memory_mib: int | None = None

    @classmethod
    def of(
        cls,
        device: str,
        *,
        threads: int = 1,
        precision: Precision = "float32",
        cache: Path | None = None,
        gpu_memory_mib: int | None = None,
    ) -> Place:
        """Read a device as users write it: `cpu`, `cuda`, `cuda:1`.

        Raises:
            DeviceUnavailable: It is none.
        """
        kind, _, index = device.partition(":")
        if not kind.isalpha() or not (index.isdecimal() or (index == "" and ":" not in device)):
            raise DeviceUnavailable(f"{device!r} is no device", hint="write cpu, cuda, or cuda:1")
        return cls(kind, int(index or 0), threads, precision, cache, gpu_memory_mib)

    def memory_limit_mib(self, declared: int | None) -> int | None:
        """The lower of what a model declares and what may be taken here; None where neither says."""
        return lowest_limit(declared, self.gpu_memory_mib)

    def check(self, runtime: str, *, devices: Sequence[str], precisions: Sequence[Precision]) -> None:
        """Fail unless the runtime knows the device and the precision.

        Raises:
            DeviceUnavailable: It does not.
        """
        if self.kind not in devices:
            raise DeviceUnavailable(
                f"{runtime}: no device {self.kind!r}", hint=f"there is: {', '.join(devices)}"
            )
        if self.precision not in precisions:
            raise DeviceUnavailable(
                f"{runtime}: cannot compute in {self.precision} on {self.kind}",
                hint=f"it knows: {', '.join(precisions)}",
            )


class Runtime(Protocol):
    """A loaded model."""

    @property
    def name(self) -> str:
        """Such as `onnxruntime`."""
        ...

    @property
    def version(self) -> str:
        """Version of the library that computes."""
        ...

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        """What `run` must be fed, by name."""
        ...

    @property
    def outputs(self) -> Mapping[str, TensorSpec]:
        """What the model offers; one of them was chosen at load."""
        ...

    @property
    def output(self) -> TensorSpec:
        """The chosen one."""
        ...

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> Vectors:
        """Compute the chosen output, float32[N, D], for N rows.

        Raises:
            ModelError: The model refused the feeds, or its output is no table of numbers.
        """
        ...


@runtime_checkable
class Waiting(Protocol):
    """An optional power, of runtimes that may wait long for somebody else."""

    def run_watched(
        self, feeds: Mapping[str, npt.NDArray[Any]], while_waiting: Callable[[], object]
    ) -> Vectors:
        """`Runtime.run`, with a call every half second, which ends it by raising."""
        ...


@runtime_checkable
class Frugal(Protocol):
    """An optional power, of runtimes that keep memory for later."""

    def frugal(self) -> Runtime:
        """The same loaded model, giving memory back after each `run`: slower, for where there is little."""
        ...


class Loader(Protocol):
    """What each runtime's file has as `load`; see `load_runtime`."""

    def __call__(self, spec: Any, root: Path, *, place: Place) -> Runtime:
        """Load what a section declares."""
        ...


TEXT_ONLY = frozenset({"onnxruntime"})
"""Runtimes whose `string` tensors hold text alone: bytes would come out as something else."""
_MODULES: Mapping[str, str] = {
    "onnx": "embedmill.runtimes.onnx",
    "jax": "embedmill.runtimes.jax",
    "openvino": "embedmill.runtimes.openvino",
    "tensorflow": "embedmill.runtimes.tensorflow",
    "tf_serving": "embedmill.runtimes.tf_serving",
    "torch": "embedmill.runtimes.torch",
    "triton": "embedmill.runtimes.triton",
}
"""Where each kind is; imported when asked for."""


def load_runtime(
    spec: RuntimeSpec,
    root: Path,
    *,
    device: str = "cpu",
    threads: int = 1,
    precision: Precision = "float32",
    cache: Path | None = None,
    gpu_memory_mib: int | None = None,
) -> Runtime:
    """Load what a `runtimes:` section of a model package declares.

    Args:
        spec: The section.
        root: The package's folder.
        device: `cpu`, `cuda`, `cuda:1`, `tpu`.
        threads: Threads that one `run` may use.
        precision: See `Place`.
        cache: See `Place`.
        gpu_memory_mib: See `Place`.

    Raises:
        ModelError: The file is damaged or unsafe, or it has no such output.
        DeviceUnavailable: The runtime does not know the device, or this machine has none.
        MissingExtra: The runtime's library is not installed.
    """
    load: Loader = importlib.import_module(_MODULES[spec.kind]).load
    place = Place.of(device, threads=threads, precision=precision, cache=cache, gpu_memory_mib=gpu_memory_mib)
    return load(spec, root, place=place)


def choose_output(outputs: Mapping[str, TensorSpec], name: str | None, *, said_by: str) -> TensorSpec:
    """The output called `name`, or the first.

    Raises:
        ModelError: There is none.
    """
    chosen = next(iter(outputs), None) if name is None else name
    if chosen is None or chosen not in outputs:
        there = ", ".join(map(str, outputs.values()))
        raise ModelError(f"{said_by}: has no output {chosen!r}", hint=f"its outputs: {there}")
    return outputs[chosen]


NO_MEMORY = re.compile(
    r"bad_alloc|out of memory|OUT_OF_MEMORY|RESOURCE_EXHAUSTED|OOM when allocating|ALLOC_FAILED"
    r"|[Ff]ailed to allocate|can.?t allocate|annot allocate memory|smaller than requested bytes",
)
"""What libraries say that got no memory, on CPUs and GPUs; their errors share no class."""


def run_failure(error: Exception, message: str) -> ModelError:
    """What a library's error in `run` is: `OutOfMemory` where it got no memory, else the model's fault."""
    without = isinstance(error, MemoryError) or NO_MEMORY.search(str(error))
    return OutOfMemory(message) if without else ModelError(message)


def checked_vectors(computed: Any, output: TensorSpec, *, said_by: str) -> Vectors:
    """What a model computed, as float32[N, D].

    Raises:
        ModelError: It is no table of numbers.
    """
    if isinstance(computed, np.ndarray) and computed.dtype.kind not in "fiu":
        raise ModelError(
            f"{said_by}: output {output.name!r} is {output.dtype}, and vectors are numbers that NumPy knows",
            hint="cast in the graph, or name another output in model.yaml",
        )
    if not isinstance(computed, np.ndarray) or computed.ndim != 2:
        shape = list(getattr(computed, "shape", []))
        raise ModelError(
            f"{said_by}: output {output.name!r} has the shape {shape}, not [rows, dimension]",
            hint="pool in the graph, or name another output in model.yaml",
        )
    return computed.astype(np.float32, copy=False)
