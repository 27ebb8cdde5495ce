"""Runtime `tensorflow`: a signature of a SavedModel."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from embedmill.errors import DeviceUnavailable, MissingExtra, ModelError
from embedmill.runtimes.base import Place, TensorSpec, checked_vectors, choose_output
from embedmill.runtimes.savedmodel import check_savedmodel
from embedmill.spec import TensorFlowSpec
from embedmill.types import Vectors

PRECISIONS: Mapping[str, tuple[Any, ...]] = {
    "cpu": ("float32",),
    "cuda": ("float32", "tf32", "float16", "bfloat16"),
}
LONGEST_REASON = 300


@dataclass(frozen=True)
class TensorFlowRuntime:
    """A signature of a SavedModel, on one device."""

    version: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    output: TensorSpec
    folder: Path
    library: ModuleType
    device: str
    function: Any
    signature: Any
    name: str = "tensorflow"

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> Vectors:
        """Compute the chosen output, float32[N, D]; see `Runtime.run`."""
        tensorflow = self.library
        if set(feeds) != set(self.inputs):
            raise ModelError(
                f"{self.folder}: fed {', '.join(sorted(feeds))}; it reads {', '.join(self.inputs)}"
            )
        for name, array in feeds.items():
            _check_feed(self.folder, self.inputs[name], array)
        try:
            with tensorflow.device(self.device):
                computed = self.function(**{name: tensorflow.constant(a) for name, a in feeds.items()})
                vectors = computed[self.output.name].numpy()
        except (tensorflow.errors.OpError, ValueError, TypeError) as error:
            raise ModelError(f"{self.folder}: TensorFlow failed: {_reason(error)}") from error
        return checked_vectors(vectors, self.output, said_by=str(self.folder))


def load(spec: TensorFlowSpec, root: Path, *, place: Place) -> TensorFlowRuntime:
    """Load a SavedModel; see `load_runtime`.

    Threads, TF32 and determinism belong to the whole process in TensorFlow: the first load settles how many
    threads there are.
    """
    place.check("tensorflow", devices=tuple(PRECISIONS), precisions=PRECISIONS.get(place.kind, ()))
    folder = root / spec.folder
    check_savedmodel(folder, allowed=spec.allow_ops)
    library = _library()
    device = _prepare(library, spec, place)
    try:
        with library.device(device):
            loaded = library.saved_model.load(str(folder))
    except (library.errors.OpError, OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise ModelError(f"{folder}: TensorFlow cannot load it: {_reason(error)}") from error
    signature = _signature(folder, loaded, spec.signature)
    outputs = _specs(signature.structured_outputs)
    function = library.function(signature, jit_compile=True) if spec.xla else signature
    return TensorFlowRuntime(
        version=library.__version__,
        inputs=_specs(signature.structured_input_signature[1]),
        outputs=outputs,
        output=choose_output(outputs, spec.output, said_by=str(folder)),
        folder=folder,
        library=library,
        device=device,
        function=function,
        signature=(loaded, signature),  # a signature does not keep its model's variables alive
    )


def _library() -> ModuleType:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_DETERMINISTIC_OPS", "1")
    try:
        with _stderr_closed():
            import tensorflow
    except ImportError:
        raise MissingExtra("TensorFlow", extra="tensorflow") from None
    module: ModuleType = tensorflow
    return module


@contextmanager
def _stderr_closed() -> Iterator[None]:
    """Keep from the terminal what TensorFlow's libraries say at any log level, while they are loaded."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _prepare(library: ModuleType, spec: TensorFlowSpec, place: Place) -> str:
    """Settle what belongs to the process, and name the device as TensorFlow does."""
    _limit_threads(library, place.threads)
    config = library.config
    config.experimental.enable_tensor_float_32_execution(place.precision != "float32")
    config.optimizer.set_experimental_options(
        {
            "auto_mixed_precision": place.precision == "float16",
            "auto_mixed_precision_onednn_bfloat16": place.precision == "bfloat16",
        }
    )
    if place.kind == "cpu":
        return "/CPU:0"
    gpus = config.list_physical_devices("GPU")
    if place.index >= len(gpus):
        raise DeviceUnavailable(
            f"tensorflow: no device cuda:{place.index}; TensorFlow sees {len(gpus)} GPUs",
            hint="the wheel must be tensorflow[and-cuda], and match the driver",
        )
    _limit_memory(library, gpus, place.index, spec.memory_limit_mib)
    return f"/GPU:{place.index}"


def _limit_threads(library: ModuleType, threads: int) -> None:
    threading = library.config.threading
    if threading.get_intra_op_parallelism_threads() == threads:
        return
    try:
        threading.set_intra_op_parallelism_threads(threads)
        threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:  # an earlier load settled it for this process: vectors are the same, up to rounding
        return


def _limit_memory(library: ModuleType, gpus: list[Any], index: int, limit_mib: int | None) -> None:
    """Take memory as it is needed, or up to a cap: never all of it, as TensorFlow would."""
    config = library.config
    try:
        if limit_mib is None:
            for gpu in gpus:  # TensorFlow wants the same of all
                config.experimental.set_memory_growth(gpu, True)
        else:
            cap = config.LogicalDeviceConfiguration(memory_limit=limit_mib)
            config.set_logical_device_configuration(gpus[index], [cap])
    except RuntimeError as error:  # devices are initialised already
        if limit_mib is not None:
            raise DeviceUnavailable(
                f"tensorflow: memory_limit_mib is too late for cuda:{index}: this process uses it already"
            ) from error


def _signature(folder: Path, loaded: Any, name: str) -> Any:
    if name not in loaded.signatures:
        raise ModelError(
            f"{folder}: has no signature {name!r}",
            hint=f"its signatures: {', '.join(sorted(loaded.signatures)) or 'none'}",
        )
    return loaded.signatures[name]


def _specs(tensors: Mapping[str, Any]) -> dict[str, TensorSpec]:
    """By name, in an order that does not depend on the library."""
    return {
        name: TensorSpec(name, tensors[name].dtype.name, _shape(tensors[name])) for name in sorted(tensors)
    }


def _shape(tensor: Any) -> tuple[int | None, ...]:
    return tuple(tensor.shape) if tensor.shape.rank is not None else ()


def _check_feed(folder: Path, spec: TensorSpec, array: npt.NDArray[Any]) -> None:
    """TensorFlow would cast some and read beyond tables with others."""
    wanted = np.dtype(object) if spec.dtype == "string" else np.dtype(spec.dtype)
    fits = array.dtype == wanted or (spec.dtype == "string" and array.dtype.kind in "SU")
    if not fits or (spec.shape and array.ndim != len(spec.shape)):
        raise ModelError(f"{folder}: input {spec} was fed {array.dtype}{list(array.shape)}")


def _reason(error: Exception) -> str:
    """The first line that says something."""
    lines = [line.strip() for line in str(getattr(error, "message", error)).splitlines()]
    said = next(
        (line for line in lines if line and not line.startswith("Detected at node")), "no reason given"
    )
    return said[:LONGEST_REASON]
