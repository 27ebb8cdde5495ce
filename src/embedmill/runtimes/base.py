"""The seam of runtimes: named arrays in, vectors out; one implementation a file, imported when asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from embedmill.errors import ModelError
from embedmill.types import Vectors


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model.

    `dtype` is numpy's name, such as `int64`. A dimension is a number where the model fixes it, and a
    name or None where it is free.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(str(size or '?') for size in self.shape)}]"


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


def load_runtime(
    kind: str, file: Path, *, output: str | None = None, device: str = "cpu", threads: int = 1
) -> Runtime:
    """Load `file` with the runtime of that kind.

    Args:
        kind: `onnx`.
        file: The model; files that it refers to lie in its folder.
        output: Name of the output with the vectors; the first where None.
        device: `cpu`.
        threads: Threads that one `run` may use.

    Raises:
        ModelError: The file is damaged or unsafe, or it has no such output.
        MissingExtra: The runtime's library is not installed.
    """
    try:
        loader = _LOADERS[kind]
    except KeyError:
        raise ModelError(f"no runtime of kind {kind!r}", hint=f"there are: {', '.join(_LOADERS)}") from None
    return loader(file, output, device, threads)


def _onnx(file: Path, output: str | None, device: str, threads: int) -> Runtime:
    from embedmill.runtimes.onnx import OnnxRuntime

    return OnnxRuntime.load(file, output=output, device=device, threads=threads)


_LOADERS: Mapping[str, Callable[[Path, str | None, str, int], Runtime]] = {"onnx": _onnx}
