"""Runtime `jax`: artifacts of `jax.export`, compiled by XLA for the device that they run on."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from embedmill.errors import DeviceUnavailable, ModelError
from embedmill.runtimes.base import Place, TensorSpec, checked_vectors, choose_output, run_failure
from embedmill.runtimes.cuda_driver import gpu_memory_bytes, load_driver
from embedmill.runtimes.feeding import check_feeds
from embedmill.runtimes.formats import refuse_pickle
from embedmill.runtimes.jax_artifact import Artifact, check_platforms, jax_library, read_artifact
from embedmill.spec import JaxSpec
from embedmill.types import Vectors

FAILURES = (RuntimeError, ValueError, TypeError, NotImplementedError, KeyError, MemoryError)
WHEELS = {"cuda": "jax[cuda13]", "tpu": "jax[tpu]"}
FEW_ROWS = 8
FRACTIONS = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")
"""What XLA may take of a GPU, by its newer and its older name; JAX refuses both at once."""
MOST_SHARE = 0.75
"""What XLA takes at most by itself."""


@dataclass(frozen=True)
class JaxRuntime:
    """An exported function, and the device that it is compiled for."""

    version: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    output: TensorSpec
    file: Path
    library: ModuleType
    function: Any
    device: Any
    name: str = "jax"

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> Vectors:
        """Compute the chosen output, float32[N, D]; see `Runtime.run`.

        XLA compiles for every new shape, so rows are filled up to one of few numbers, and cut off again.
        """
        check_feeds(self.inputs, feeds, said_by=str(self.file))
        rows, fed = self._filled(feeds)
        try:
            # Without it JAX would make int32 of int64.
            with self.library.enable_x64(True):
                computed = np.asarray(self.function(self.library.device_put(fed, self.device)))
        except FAILURES as error:
            raise run_failure(error, f"{self.file}: JAX failed: {_reason(error)}") from error
        return checked_vectors(computed[:rows], self.output, said_by=str(self.file))

    def _filled(
        self, feeds: Mapping[str, npt.NDArray[Any]]
    ) -> tuple[int | None, dict[str, npt.NDArray[Any]]]:
        """The number of rows, and the feeds with their last row repeated; the model sees each row alone."""
        symbol = self.output.shape[0] if self.output.shape else None
        counts = {len(feeds[name]) for name, spec in self.inputs.items() if symbol in spec.shape[:1]}
        if not isinstance(symbol, str) or len(counts) != 1 or counts == {0}:
            return None, dict(feeds)
        (rows,) = counts
        more = filled_rows(rows) - rows
        return rows, {
            name: np.concatenate([array, np.repeat(array[-1:], more, axis=0)])
            if more and symbol in self.inputs[name].shape[:1]
            else array
            for name, array in feeds.items()
        }


def filled_rows(rows: int) -> int:
    """The number of rows that is compiled for: 1, 2, 4, and multiples of 8."""
    return 1 << (rows - 1).bit_length() if rows <= FEW_ROWS else -(-rows // FEW_ROWS) * FEW_ROWS


def load(spec: JaxSpec, root: Path, *, place: Place) -> JaxRuntime:
    """Load an artifact of `jax.export`; see `load_runtime`."""
    library = jax_library()
    place.check("jax", devices=["cpu", "cuda", "tpu"], precisions=["float32", "tf32", "bfloat16"])
    file = root / spec.file
    refuse_pickle(file)
    artifact = read_artifact(file)
    check_platforms(artifact.platforms, spec.platforms, place.kind, said_by=str(file))
    _check_precision(artifact, file, place)
    output = choose_output(artifact.outputs, spec.output, said_by=str(file))
    device = _device(library, place, spec.memory_limit_mib)
    return JaxRuntime(
        version=_version(library, device),
        inputs=artifact.inputs,
        outputs=artifact.outputs,
        output=output,
        file=file,
        library=library,
        function=_function(library, artifact, output.name, place),
        device=device,
    )


def _check_precision(artifact: Artifact, file: Path, place: Place) -> None:
    if artifact.rounded and place.precision == "float32" and place.kind != "cpu":
        raise ModelError(
            f"{file}: may round multiplications on {place.kind}, and the declared precision is float32",
            hint="export under jax.default_matmul_precision('highest'), or declare tf32 or bfloat16",
        )


def _device(library: ModuleType, place: Place, memory_limit_mib: int | None) -> Any:
    """The device; the first call in a process starts JAX, with this place's threads and memory."""
    try:
        with _environment(variables(place, memory_limit_mib)):
            devices = library.devices(place.kind)
    except RuntimeError:
        devices = []
    if place.index >= len(devices):
        count = f"{len(devices)} of that kind" if devices else "none of that kind"
        wheel = f"; pip install '{WHEELS[place.kind]}'" if place.kind in WHEELS and not devices else ""
        raise DeviceUnavailable(f"jax: no device {place.kind}:{place.index}", hint=f"JAX sees {count}{wheel}")
    return devices[place.index]


def variables(place: Place, memory_limit_mib: int | None, *, driver: Any | None = None) -> dict[str, str]:
    """What JAX is started with: threads, and memory that grows, up to a limit if there is one.

    XLA takes limits as shares of a GPU's memory; whoever has set one has said how much it may take.

    Args:
        place: A device.
        memory_limit_mib: What the package declares.
        driver: The CUDA driver; where absent it is loaded.

    Raises:
        DeviceUnavailable: There is a limit, and no such GPU.
    """
    found = {"NPROC": str(place.threads), "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    limit_mib = place.memory_limit_mib(memory_limit_mib)
    if place.kind == "cuda" and limit_mib is not None and not os.environ.keys() & set(FRACTIONS):
        of_bytes = gpu_memory_bytes(load_driver() if driver is None else driver, place.index)
        share = min(MOST_SHARE, limit_mib * 2**20 / of_bytes)
        found[FRACTIONS[0]] = f"{math.floor(share * 10_000) / 10_000:.4f}"
    return found


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update({name: value for name, value in variables.items() if before[name] is None})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


def _function(library: ModuleType, artifact: Artifact, output: str, place: Place) -> Any:
    """The exported function, jitted: a dict of arrays to the one output."""
    exported, by_keyword = artifact.exported, _by_keyword(library, artifact.exported)

    def chosen(feeds: dict[str, Any]) -> Any:
        made = exported.call(**feeds) if by_keyword else exported.call(feeds)
        array = made[output] if isinstance(made, dict) else made
        floating = library.numpy.issubdtype(array.dtype, library.numpy.floating)
        return array.astype("float32") if floating else array

    return library.jit(chosen, compiler_options=_compiler_options(place))


def _by_keyword(library: ModuleType, exported: Any) -> bool:
    arguments, _ = library.tree.unflatten(exported.in_tree, range(len(exported.in_avals)))
    return not arguments


def _compiler_options(place: Place) -> dict[str, bool | int]:
    """Equal bits for equal feeds; no more threads than asked for."""
    if place.kind == "cpu":
        return {"xla_cpu_multi_thread_eigen": place.threads > 1}
    if place.kind == "cuda":
        return {"xla_gpu_exclude_nondeterministic_ops": True, "xla_gpu_autotune_level": 0}
    return {}


def _version(library: ModuleType, device: Any) -> str:
    """JAX's, and off CPUs what XLA says of the driver."""
    platform = " ".join(str(device.client.platform_version).split())
    return str(library.__version__) if device.platform == "cpu" else f"{library.__version__} ({platform})"


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or ["no reason given"])[0]
