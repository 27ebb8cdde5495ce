"""Runtime `openvino`: OpenVINO on CPUs, from ONNX files, its own IR, and SavedModels, without TensorFlow."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy.typing as npt

from embedmill.errors import DeviceUnavailable, ModelError
from embedmill.extras import optional
from embedmill.runtimes.base import Place, TensorSpec, checked_vectors, choose_output, run_failure
from embedmill.runtimes.contents import contents
from embedmill.runtimes.feeding import check_feeds
from embedmill.runtimes.formats import is_xml, refuse_pickle
from embedmill.runtimes.savedmodel import check_saved_model
from embedmill.spec import OpenVinoSpec, Precision
from embedmill.types import Vectors

PRECISIONS: Mapping[Precision, tuple[str, str]] = {
    "float32": ("f32", "FP32"),
    "bfloat16": ("bf16", "BF16"),
    "float16": ("f16", "FP16"),
}
"""For each precision, what OpenVINO calls it as a hint, and among the capabilities of a device."""
NOISE = ("Exception from ", "Check '", "FrontEnd API failed", "Summary:", "Model wasn't fully converted")


class Tensors(Mapping[str, TensorSpec]):
    """Inputs or outputs, each under one name, and found under every name that OpenVINO has for it.

    Compiling drops `Identity`, and the tensor then has the names of both ends; an IR may be saved so. No two
    tensors of a graph share a name: outputs that do are the same.
    """

    def __init__(self, own: Sequence[Any], compiled: Sequence[Any]) -> None:
        """Take the ports of a model, whose names come first, and those that it was compiled into."""
        self._names = names = [_name(port) for port in own]
        self._specs = {name: _spec(name, compiled[names.index(name)]) for name in names}
        self._aliases: dict[str, str] = {}
        for ports in (own, compiled):
            for name, port in zip(names, ports, strict=True):
                self._aliases.update(dict.fromkeys(port.get_names() - self._aliases.keys(), name))
        self._aliases.update((name, name) for name in names)

    def __getitem__(self, name: str) -> TensorSpec:
        """By any name; the tensor says which of them comes first."""
        return self._specs[self._aliases[name]]

    def __iter__(self) -> Iterator[str]:
        """One name of each, in the order of the model."""
        return iter(self._specs)

    def __len__(self) -> int:
        """Different tensors."""
        return len(self._specs)

    def place(self, spec: TensorSpec) -> int:
        """Which of the ports it is."""
        return self._names.index(spec.name)


@dataclass(frozen=True)
class OpenVinoRuntime:
    """A model that OpenVINO compiled for this CPU."""

    version: str
    inputs: Tensors
    outputs: Tensors
    output: TensorSpec
    path: Path
    compiled: Any
    port: Any
    failures: tuple[type[Exception], ...]
    idle: deque[Any] = field(default_factory=deque)
    """Requests that nobody uses: two threads may not share one, and making one takes long."""
    name: str = "openvino"

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> Vectors:
        """Compute the chosen output, float32[N, D]; see `Runtime.run`.

        OpenVINO computes with whatever an absent input held before, and converts types, so feeds are checked.
        """
        check_feeds(self.inputs, feeds, said_by=str(self.path))
        try:
            request = self._request()
            computed = request.infer(dict(feeds))[self.port]
        except self.failures as error:
            raise run_failure(error, f"{self.path}: OpenVINO failed: {_reason(error)}") from error
        self.idle.append(request)
        return checked_vectors(computed, self.output, said_by=str(self.path))

    def _request(self) -> Any:
        try:
            return self.idle.pop()
        except IndexError:
            return self.compiled.create_infer_request()


def load(spec: OpenVinoSpec, root: Path, *, place: Place) -> OpenVinoRuntime:
    """Load an ONNX file, an IR or a SavedModel; see `load_runtime`."""
    library = _library()
    place.check("openvino", devices=["cpu"], precisions=list(PRECISIONS))
    path = root / spec.path
    if path.is_dir():
        check_saved_model(path)
    else:
        refuse_pickle(path)
    files = contents(spec, root, said_by=str(root))
    failures = _failures(library)
    try:
        core = library.Core()
        model = _read(library, core, path, files)
        _check_model(model, path)
        compiled = core.compile_model(model, "CPU", _properties(core, place))
        inputs = Tensors(model.inputs, compiled.inputs)
        outputs = Tensors(model.outputs, compiled.outputs)
    except library.frontend.OpConversionFailure as error:
        raise DeviceUnavailable(f"{path}: OpenVINO cannot compute it: {_reason(error)}") from error
    except failures as error:
        raise ModelError(f"{path}: OpenVINO cannot load it: {_reason(error)}") from error
    output = choose_output(outputs, spec.output, said_by=str(path))
    return OpenVinoRuntime(
        version=library.__version__,
        inputs=inputs,
        outputs=outputs,
        output=output,
        path=path,
        compiled=compiled,
        port=compiled.outputs[outputs.place(output)],
        failures=failures,
    )


def _library() -> ModuleType:
    with optional("OpenVINO", "openvino", extra="openvino"):
        import openvino
        import openvino.frontend
    module: ModuleType = openvino
    return module


def _failures(library: ModuleType) -> tuple[type[Exception], ...]:
    """Everything that OpenVINO raises: the classes of its front ends share no base."""
    own = vars(library.frontend).values()
    classes = [found for found in own if isinstance(found, type) and issubclass(found, Exception)]
    return (*classes, RuntimeError, ValueError, TypeError, MemoryError)


def _read(library: ModuleType, core: Any, path: Path, files: Sequence[Path]) -> Any:
    """Parse by the front end of the format that the contents show; OpenVINO itself would try all of them."""
    if is_xml(path):
        return core.read_model(str(path), str(files[1]))
    front_end = library.frontend.FrontEndManager().load_by_framework("tf" if path.is_dir() else "onnx")
    return front_end.convert(front_end.load(str(path)))


def _check_model(model: Any, path: Path) -> None:
    """Refuse what could not be fed, and what would make a batch depend on the one before."""
    if any(operation.get_type_name() in ("ReadValue", "Assign") for operation in model.get_ops()):
        raise ModelError(
            f"{path}: keeps state from batch to batch",
            hint="export the model without variables that it writes",
        )
    texts = [port.any_name for port in model.inputs if port.element_type.to_string() == "string"]
    if texts:
        raise DeviceUnavailable(f"{path}: OpenVINO takes no texts, and {', '.join(texts)} is one")


def _properties(core: Any, place: Place) -> dict[str, Any]:
    """What makes OpenVINO compute in the declared precision, on so many threads, alike every time.

    Left alone, it computes in bfloat16 on CPUs that can (docs.openvino.ai, Precision Control).
    """
    hint, capability = PRECISIONS[place.precision]
    if capability not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise DeviceUnavailable(f"openvino: this CPU does not compute in {place.precision}")
    return {
        "INFERENCE_PRECISION_HINT": hint,
        "EXECUTION_MODE_HINT": "ACCURACY",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
        "INFERENCE_NUM_THREADS": place.threads,
        "NUM_STREAMS": "1",
        "ENABLE_CPU_PINNING": False,  # two workers would be pinned to the same cores
    }


def _spec(name: str, port: Any) -> TensorSpec:
    return TensorSpec(name, _dtype(port), _shape(port))


def _name(port: Any) -> str:
    """The name that people gave: of `x`, `x:0` and `serving_default_x:0`, the first."""
    names = sorted(port.get_names() or [port.get_node().get_friendly_name()])
    return str(min(names, key=lambda name: (":" in name, "/" in name, len(name))))


def _dtype(port: Any) -> str:
    kind = port.element_type
    return "string" if kind.to_string() == "string" else str(kind.to_dtype().name)


def _shape(port: Any) -> tuple[int | None, ...]:
    shape = port.partial_shape
    if shape.rank.is_dynamic:
        return ()
    return tuple(None if size.is_dynamic else size.get_length() for size in shape)


def _reason(error: Exception) -> str:
    """OpenVINO's first line that says something, without where in its sources that was."""
    lines = [line.strip(" -") for line in str(error).splitlines()]
    return next((line for line in lines if line and not line.startswith(NOISE)), "no reason given")
