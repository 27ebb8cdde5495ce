"""Runtime `onnx`: ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy.typing as npt

from embedmill.errors import MissingExtra, ModelError
from embedmill.runtimes.base import Place, TensorSpec, checked_vectors, choose_output
from embedmill.runtimes.formats import refuse_pickle
from embedmill.runtimes.onnx_external import external_files
from embedmill.runtimes.onnx_header import tiny_model
from embedmill.spec import OnnxSpec
from embedmill.types import Vectors

DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(uint8)": "uint8",
    "tensor(int16)": "int16",
    "tensor(int8)": "int8",
    "tensor(bool)": "bool",
    "tensor(string)": "string",
}
OLDEST_OPSET, OLDEST_IR = 7, 4
"""What every ONNX Runtime reads: https://onnxruntime.ai/docs/reference/compatibility.html"""
FATAL = 4
"""Log level: errors reach the user as exceptions, and once."""


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
    name: str = "onnxruntime"

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> Vectors:
        """Compute the chosen output, float32[N, D]; see `Runtime.run`."""
        try:
            (vectors,) = self.session.run([self.output.name], dict(feeds))
        except self.failures as error:
            raise ModelError(f"{self.file}: ONNX Runtime failed: {_reason(error)}") from error
        return checked_vectors(vectors, self.output, said_by=str(self.file))


def load(spec: OnnxSpec, root: Path, *, place: Place) -> OnnxRuntime:
    """Load an ONNX file; see `load_runtime`."""
    library = _library()
    place.check("onnx", devices=["cpu"], precisions=["float32"])
    file = root / spec.file
    refuse_pickle(file)
    external_files(file)
    failures = _failures(library)
    try:
        session = library.InferenceSession(
            str(file), sess_options=_options(library, place.threads), providers=["CPUExecutionProvider"]
        )
    except failures as error:
        raise ModelError(f"{file}: ONNX Runtime cannot load it: {_reason(error)}") from error
    outputs = _specs(session.get_outputs())
    return OnnxRuntime(
        version=library.__version__,
        inputs=_specs(session.get_inputs()),
        outputs=outputs,
        output=choose_output(outputs, spec.output, said_by=str(file)),
        file=file,
        session=session,
        failures=failures,
    )


def newest_read(newest: int = 64) -> tuple[int, int]:
    """The newest ONNX operators, and the newest version of the file format, that ONNX Runtime reads here.

    Raises:
        MissingExtra: It is not installed.
    """
    library = _library()

    def reads(opset: int, ir: int) -> bool:
        try:
            library.InferenceSession(
                tiny_model(opset=opset, ir=ir), _options(library, 1), providers=["CPUExecutionProvider"]
            )
        except _failures(library):
            return False
        return True

    opset = max((each for each in range(OLDEST_OPSET, newest) if reads(each, OLDEST_IR)), default=0)
    return opset, max((each for each in range(OLDEST_IR, newest) if reads(OLDEST_OPSET, each)), default=0)


def _library() -> ModuleType:
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtra("ONNX Runtime", extra="onnx") from None
    module: ModuleType = onnxruntime
    return module


def _failures(library: ModuleType) -> tuple[type[Exception], ...]:
    """Everything that ONNX Runtime raises: its own classes share no base."""
    own = vars(library.capi.onnxruntime_pybind11_state).values()
    classes = [found for found in own if isinstance(found, type) and issubclass(found, Exception)]
    return (*classes, RuntimeError, ValueError, TypeError)


def _options(library: ModuleType, threads: int) -> Any:
    options = library.SessionOptions()
    options.execution_mode = library.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # it remembers every shape of a batch, and they are many
    options.log_severity_level = FATAL
    return options


def _specs(arguments: Sequence[Any]) -> dict[str, TensorSpec]:
    return {a.name: TensorSpec(a.name, DTYPES.get(a.type, a.type), tuple(a.shape)) for a in arguments}


def _reason(error: Exception) -> str:
    """ONNX Runtime's first line, without its code and the file's name over again."""
    line = (str(error).splitlines() or ["no reason given"])[0]
    return line.rsplit("failed:", 1)[-1].strip() if line.startswith("[ONNXRuntimeError]") else line
