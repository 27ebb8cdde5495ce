"""Runtime `tensorflow`: a signature of a SavedModel."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy.typing as npt

from embedmill.errors import ModelError
from embedmill.extras import optional
from embedmill.runtimes.base import Place, TensorSpec, checked_vectors, choose_output, run_failure
from embedmill.runtimes.feeding import check_feeds
from embedmill.runtimes.savedmodel import check_saved_model
from embedmill.runtimes.tensorflow_process import LOG, claim, set_precision
from embedmill.spec import TensorFlowSpec
from embedmill.types import Vectors

UNREADABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What loading raises, beside TensorFlow's own errors, where a SavedModel contradicts itself."""


@dataclass(frozen=True)
class TensorFlowRuntime:
    """A signature of a loaded SavedModel; `loaded` keeps its variables alive."""

    version: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    output: TensorSpec
    folder: Path
    place: Place
    device: str
    library: Any
    loaded: Any
    compute: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    name: str = "tensorflow"

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> Vectors:
        """Compute the chosen output, float32[N, D]; see `Runtime.run`."""
        tf = self.library
        check_feeds(self.inputs, feeds, said_by=str(self.folder))
        set_precision(tf, self.place)
        try:
            with tf.device(self.device):
                tensors = {name: tf.convert_to_tensor(array) for name, array in feeds.items()}
                made = self.compute(tensors)[self.output.name]
                vectors = (tf.cast(made, tf.float32) if made.dtype.is_floating else made).numpy()
        except (tf.errors.OpError, ValueError, TypeError, AttributeError, MemoryError) as error:
            raise run_failure(error, f"{self.folder}: TensorFlow failed: {_reason(error)}") from error
        return checked_vectors(vectors, self.output, said_by=str(self.folder))


def load(spec: TensorFlowSpec, root: Path, *, place: Place) -> TensorFlowRuntime:
    """Load a SavedModel; see `load_runtime`."""
    folder = root / spec.folder
    check_saved_model(folder, allow_ops=spec.allow_ops)
    if spec.allow_ops:
        LOG.warning("%s: may run %s, which can do more than compute", folder, ", ".join(spec.allow_ops))
    tf = _library()
    device = claim(tf, place, memory_limit_mib=place.memory_limit_mib(spec.memory_limit_mib))
    set_precision(tf, place)
    try:
        with tf.device(device):
            loaded = tf.saved_model.load(str(folder))
    except (tf.errors.OpError, *UNREADABLE) as error:
        raise ModelError(f"{folder}: TensorFlow cannot load it: {_reason(error)}") from error
    function = _signature(loaded, spec.signature, folder)
    inputs = _specs(function.structured_input_signature[1], folder)
    outputs = _specs(function.structured_outputs, folder)
    return TensorFlowRuntime(
        version=_version(tf, place),
        inputs=inputs,
        outputs=outputs,
        output=choose_output(outputs, spec.output, said_by=str(folder)),
        folder=folder,
        place=place,
        device=device,
        library=tf,
        loaded=loaded,
        compute=_compiled(tf, function, inputs, folder) if spec.xla else lambda feeds: function(**feeds),
    )


def _library() -> ModuleType:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # errors reach the user as exceptions, and once
    with optional("TensorFlow", "tensorflow", extra="tensorflow"), _stderr_closed():
        import tensorflow as tf
    tf.get_logger().setLevel("ERROR")
    module: ModuleType = tf
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


def _version(tf: ModuleType, place: Place) -> str:
    if place.kind == "cpu":
        return str(tf.__version__)
    built = tf.sysconfig.get_build_info()
    return f"{tf.__version__} (CUDA {built.get('cuda_version')}, cuDNN {built.get('cudnn_version')})"


def _signature(loaded: Any, name: str, folder: Path) -> Any:
    signatures = getattr(loaded, "signatures", {})
    if name not in signatures:
        there = "; ".join(f"{known}({_arguments(signatures[known])})" for known in sorted(signatures))
        raise ModelError(f"{folder}: has no signature {name!r}", hint=f"its signatures: {there or 'none'}")
    return signatures[name]


def _arguments(function: Any) -> str:
    return ", ".join(function.structured_input_signature[1])


def _specs(declared: Mapping[str, Any], folder: Path) -> dict[str, TensorSpec]:
    """By name: TensorFlow lists them in an order that differs from one process to the next."""
    return {name: _spec(name, each, folder) for name, each in sorted(declared.items())}


def _spec(name: str, declared: Any, folder: Path) -> TensorSpec:
    """Of a plain tensor; an unknown number of dimensions reads as none."""
    if type(declared).__name__ != "TensorSpec":
        raise ModelError(
            f"{folder}: {name!r} is a {type(declared).__name__.removesuffix('Spec')}, not a tensor",
            hint="convert ragged and sparse tensors within the signature",
        )
    shape = () if declared.shape.rank is None else tuple(declared.shape)
    return TensorSpec(name, declared.dtype.name, shape)


def _compiled(
    tf: Any, function: Any, inputs: Mapping[str, TensorSpec], folder: Path
) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    texts = [name for name, spec in inputs.items() if spec.dtype == "string"]
    if texts:
        raise ModelError(
            f"{folder}: xla: cannot compile strings, and input {texts[0]!r} has them",
            hint="leave `xla` out of model.yaml",
        )
    signature = [function.structured_input_signature[1]]
    compiled: Callable[[Mapping[str, Any]], Mapping[str, Any]] = tf.function(
        lambda feeds: function(**feeds), input_signature=signature, jit_compile=True
    )
    return compiled


def _reason(error: Exception) -> str:
    """The line of TensorFlow's message that says what is wrong, without where in the graph that is."""
    message = str(error).split("\n\t [[")[0]
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if not lines:
        return f"{type(error).__name__}, no reason given"
    return lines[-1] if lines[0].startswith("Graph execution error") else lines[0]
