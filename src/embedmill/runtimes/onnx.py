"""Runtime `onnx`: ONNX Runtime, on CPUs, and on GPUs by CUDA or TensorRT."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy.typing as npt

from embedmill.errors import DeviceUnavailable, ModelError
from embedmill.extras import optional
from embedmill.runtimes.base import Place, TensorSpec, checked_vectors, choose_output, run_failure
from embedmill.runtimes.formats import refuse_pickle
from embedmill.runtimes.onnx_external import external_files
from embedmill.runtimes.onnx_gpu import FATAL, gpu_versions, prepared, why_not_loaded
from embedmill.runtimes.onnx_header import tiny_model
from embedmill.runtimes.onnx_providers import (
    CPU,
    TENSORRT,
    Options,
    check_place,
    check_shapes_declared,
    check_shapes_fed,
    fallen_back,
    limited,
    provider_of,
    provider_options,
    stack,
)
from embedmill.spec import OnnxSpec, ShapeRange
from embedmill.types import Vectors

DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(int16)": "int16",
    "tensor(int8)": "int8",
    "tensor(bool)": "bool",
    "tensor(string)": "string",
}
GPU_FAILURE = re.compile("CUDA|CUBLAS|CUDNN|TensorRT")
"""What an error says that has to do with the GPU and not with the file."""
CODE = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : ")
PLACE = re.compile(
    r"(\.)?(?<![\w/])(?!//)(?:/\S+|\w+)\.(?:cc|cpp|cuh?|h|hpp):\d+ "
    r"(?:[^()]*\w\((?:[^()]|\([^()]*\))*\)(?: const)?(?: \[with .*?\])? |\w+ (?=[A-Z]))?"
)
"""File, line and function of its source, which it puts in front of some messages, and within others.

What ends a URL is none.
"""
CUT_SHORT = "out of bounds or can not be read in full"
"""What it says of tensors that are not where the ONNX file says, in the file beside it."""
OLDEST_OPSET, OLDEST_IR = 7, 4
"""What every ONNX Runtime reads: https://onnxruntime.ai/docs/reference/compatibility.html"""


@dataclass(frozen=True)
class OnnxRuntime:
    """An ONNX file in an inference session of ONNX Runtime."""

    version: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    output: TensorSpec
    file: Path
    session: Any
    failures: tuple[type[Exception], ...]
    shapes: Mapping[str, ShapeRange] = field(default_factory=dict)
    """What TensorRT's engine was built for; empty where something else computes."""
    name: str = "onnxruntime"
    how: Any = None
    """Options of each run; None: the usual ones."""

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> Vectors:
        """Compute the chosen output, float32[N, D]; see `Runtime.run`."""
        check_shapes_fed(self.shapes, feeds, said_by=str(self.file))
        try:
            (vectors,) = self.session.run([self.output.name], dict(feeds), self.how)
        except self.failures as error:
            raise run_failure(error, f"{self.file}: ONNX Runtime failed: {_reason(error)}") from error
        return checked_vectors(vectors, self.output, said_by=str(self.file))

    def frugal(self) -> OnnxRuntime:
        """On CPUs: what was allocated for the largest batch is given back, so that others can be.

        https://onnxruntime.ai/docs/get-started/with-c.html: shrinkage of the arena, for a run.
        """
        if self.session.get_providers()[0] != CPU:
            return self
        how = _library().RunOptions()
        how.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        return replace(self, how=how)


def load(spec: OnnxSpec, root: Path, *, place: Place) -> OnnxRuntime:
    """Load an ONNX file; see `load_runtime`."""
    library = _library()
    check_place(spec, place)
    file = root / spec.file
    refuse_pickle(file)
    files = (file, *external_files(file))
    provider = provider_of(spec, place)
    if provider == CPU:
        session = _session(library, file, place, provider_options(spec, place))
        version = library.__version__
    else:
        session, version = gpu_session(library, spec, place, files)
    outputs = _specs(session.get_outputs())
    output = choose_output(outputs, spec.output, said_by=str(file))
    _check_type(output, said_by=str(file))
    return OnnxRuntime(
        version=version,
        inputs=_specs(session.get_inputs()),
        outputs=outputs,
        output=output,
        file=file,
        session=session,
        failures=_failures(library),
        shapes=spec.shapes if provider == TENSORRT else {},
    )


def gpu_session(
    library: Any, spec: OnnxSpec, place: Place, files: Sequence[Path], *, driver: Any | None = None
) -> tuple[Any, str]:
    """A session that surely computes on the GPU, and the version of all that computes there.

    Args:
        library: The module `onnxruntime`.
        spec: The section of the package.
        place: A GPU.
        files: The ONNX file, and those with its tensors.
        driver: The CUDA driver; where absent it is loaded.

    Raises:
        DeviceUnavailable: There is no such GPU, or it would not be used.
        ModelError: The file is damaged, or an input has free dimensions that TensorRT must know.
    """
    spec = limited(spec, place)
    provider = provider_of(spec, place)
    with prepared(library, spec, place, files, driver=driver) as ready:
        session = _session(library, files[0], place, ready.providers)
        used = session.get_providers()
        if used[0] != provider:
            raise fallen_back(provider, used, why=why_not_loaded(library, provider))
        if provider == TENSORRT:
            check_shapes_declared(spec, _specs(session.get_inputs()), said_by=str(files[0]))
    versions = gpu_versions(library)
    return session, stack(spec, provider, library=library.__version__, versions=versions, gpu=ready.gpu.name)


def _session(library: Any, file: Path, place: Place, providers: Sequence[tuple[str, Options]]) -> Any:
    """A session that never turns to other providers by itself, as sessions do by default after an error."""
    try:
        return library.InferenceSession(
            str(file), sess_options=_options(library, place), providers=providers, enable_fallback=0
        )
    except _failures(library) as error:
        reason = _reason(error)
        if place.kind != "cpu" and GPU_FAILURE.search(reason):
            raise DeviceUnavailable(f"{file}: ONNX Runtime cannot use the GPU: {reason}") from error
        hint = "was the file with its tensors copied whole? copy both anew" if CUT_SHORT in reason else ""
        raise ModelError(f"{file}: ONNX Runtime cannot load it: {reason}", hint=hint) from error


def _check_type(output: TensorSpec, *, said_by: str) -> None:
    """Refuse an output that ONNX Runtime computes, and cannot hand over, before anything is fed.

    Raises:
        ModelError: NumPy lacks its type.
    """
    if output.dtype.startswith("tensor("):
        kind = output.dtype.removeprefix("tensor(").removesuffix(")")
        raise ModelError(
            f"{said_by}: output {output.name!r} is {kind}, a type that NumPy lacks",
            hint="cast it to float32 in the graph, or name another output in model.yaml",
        )


def newest_read(newest: int = 64) -> tuple[int, int]:
    """The newest ONNX operators, and the newest version of the file format, that ONNX Runtime reads here.

    Raises:
        MissingExtra: It is not installed.
    """
    library = _library()
    options = _options(library, Place("cpu"))

    def reads(opset: int, ir: int) -> bool:
        try:
            library.InferenceSession(tiny_model(opset=opset, ir=ir), options, providers=[CPU])
        except _failures(library):
            return False
        return True

    opset = max((each for each in range(OLDEST_OPSET, newest) if reads(each, OLDEST_IR)), default=0)
    return opset, max((each for each in range(OLDEST_IR, newest) if reads(OLDEST_OPSET, each)), default=0)


def _library() -> ModuleType:
    with optional("ONNX Runtime", "onnxruntime", extra="onnx"):
        import onnxruntime
    module: ModuleType = onnxruntime
    return module


def _failures(library: Any) -> tuple[type[Exception], ...]:
    """Everything that ONNX Runtime raises: its own classes share no base."""
    own = vars(library.capi.onnxruntime_pybind11_state).values()
    classes = [found for found in own if isinstance(found, type) and issubclass(found, Exception)]
    return (*classes, RuntimeError, ValueError, TypeError, MemoryError)


def _options(library: Any, place: Place) -> Any:
    options = library.SessionOptions()
    options.execution_mode = library.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = place.threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # it remembers every shape of a batch, and they are many
    options.log_severity_level = FATAL
    options.use_deterministic_compute = place.kind != "cpu"  # there, some sums have no order of their own
    return options


def _specs(arguments: Sequence[Any]) -> dict[str, TensorSpec]:
    return {a.name: TensorSpec(a.name, DTYPES.get(a.type, a.type), tuple(a.shape)) for a in arguments}


def _reason(error: Exception) -> str:
    """ONNX Runtime's first line, without where in its source that is, its code and the file's name again."""
    line = (str(error).splitlines() or ["no reason given"])[0]
    line = line.rsplit("failed:", 1)[-1].strip() if line.startswith("[ONNXRuntimeError]") else line
    return CODE.sub("", PLACE.sub(lambda place: ". " if place[1] else "", line))
