"""Runtime `torch`: programs of `torch.export` (.pt2), computed by PyTorch; nothing is ever unpickled."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from embedmill.errors import DeviceUnavailable, ModelError
from embedmill.extras import optional
from embedmill.runtimes.base import Place, TensorSpec, checked_vectors, choose_output, run_failure
from embedmill.runtimes.feeding import check_feeds
from embedmill.runtimes.formats import refuse_pickle
from embedmill.runtimes.pt2_archive import checked_program
from embedmill.runtimes.pt2_graph import Program
from embedmill.spec import Precision, TorchSpec
from embedmill.types import Vectors

PRECISIONS: Mapping[str, tuple[Precision, ...]] = {
    "cpu": ("float32", "bfloat16", "float16"),
    "cuda": ("float32", "tf32", "bfloat16", "float16"),
}
REDUCED = ("float16", "bfloat16")
PLAIN_MODULES = ("_operator", "math", "torch")
"""Whose functions of numbers a program calls for its sizes; pt2_graph says which."""
DETERMINISTIC_CUBLAS = ":4096:8"
"""Of CUBLAS_WORKSPACE_CONFIG: without it cuBLAS may add up in any order."""


@dataclass(frozen=True)
class TorchRuntime:
    """A program that torch computes in this process.

    `threads` and the handling of TF32 belong to the process in torch: each `run` sets its own.
    """

    version: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    output: TensorSpec
    file: Path
    program: Program
    module: Any
    library: ModuleType
    place: Place
    name: str = "torch"

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> Vectors:
        """Compute the chosen output, float32[N, D]; see `Runtime.run`."""
        check_feeds(self.inputs, feeds, said_by=str(self.file), longest=self.program.longest)
        device = f"{self.place.kind}:{self.place.index}"
        with numerics(self.library, self.place):
            try:
                tensors = [
                    self.library.tensor(np.ascontiguousarray(feeds[name]), device=device)
                    for name in self.inputs
                ]
                split = self.program.positional
                named = dict(zip(list(self.inputs)[split:], tensors[split:], strict=True))
                made = self._outputs(self.module(*tensors[:split], **named))
                vectors = made[self.output.name].float().cpu().numpy()
            except Exception as error:  # what operators raise has no common class
                raise run_failure(error, f"{self.file}: torch failed: {_reason(error)}") from error
        return checked_vectors(vectors, self.output, said_by=str(self.file))

    def _outputs(self, returned: Any) -> Mapping[str, Any]:
        if isinstance(returned, Mapping):
            return returned
        several = returned if isinstance(returned, (tuple, list)) else [returned]
        return dict(zip(self.outputs, several, strict=True))


def load(spec: TorchSpec, root: Path, *, place: Place) -> TorchRuntime:
    """Load a program; see `load_runtime`."""
    library = _library()
    file = root / spec.file
    check_place(library, place)
    if place.kind == "cuda":
        prepare_cuda(library, place, spec)
    refuse_pickle(file)
    device = (place.kind, place.index if place.kind == "cuda" else None)
    with checked_program(file, device=device) as (program, clean):
        output = choose_output(program.outputs, spec.output, said_by=str(file))
        try:
            exported = library.export.load(clean)
            module = _module(library, exported, place)
        except Exception as error:  # torch raises whatever a damaged graph runs into
            raise ModelError(f"{file}: torch cannot load it: {_reason(error)}") from error
    return TorchRuntime(
        version=_version(library, place),
        inputs=program.inputs,
        outputs=program.outputs,
        output=output,
        file=file,
        program=program,
        module=module,
        library=library,
        place=place,
    )


def _library() -> ModuleType:
    with optional("PyTorch", "torch", extra="torch"):
        import torch
        import torch.export
    module: ModuleType = torch
    return module


def check_place(library: ModuleType, place: Place) -> None:
    """Fail unless torch has the device, and computes in the precision on it.

    Raises:
        DeviceUnavailable: It does not.
    """
    place.check("torch", devices=list(PRECISIONS), precisions=PRECISIONS.get(place.kind, ()))
    if place.kind == "cuda":
        count = library.cuda.device_count() if library.cuda.is_available() else 0
        if place.index >= count:
            raise DeviceUnavailable(
                f"torch: no device cuda:{place.index}", hint=f"torch {library.__version__} sees {count}"
            )


def prepare_cuda(library: ModuleType, place: Place, spec: TorchSpec) -> None:
    """Before the first use of the device: a cap on its memory, and sums that are always in one order."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", DETERMINISTIC_CUBLAS)
    shares = [] if spec.memory_fraction is None else [spec.memory_fraction]
    limit_mib = place.memory_limit_mib(spec.memory_limit_mib)
    if limit_mib is not None:
        shares.append(limit_mib * 2**20 / library.cuda.get_device_properties(place.index).total_memory)
    if shares:
        library.cuda.set_per_process_memory_fraction(min(1.0, *shares), place.index)


def _module(library: ModuleType, exported: Any, place: Place) -> Any:
    """What computes; in reduced precision without the program's assertions on float32 in between."""
    module = exported.module(check_guards=False)
    operator = type(library.ops.aten.add.Tensor)
    for node in module.graph.nodes:
        known = isinstance(node.target, operator) or getattr(node.target, "__module__", "") in PLAIN_MODULES
        if node.op == "call_function" and not known:
            raise TypeError(f"{node.name} calls {node.target!r}, which is no operator")
    if place.precision in REDUCED:
        for node in list(module.graph.nodes):
            if node.target is library.ops.aten._assert_tensor_metadata.default:
                module.graph.erase_node(node)
        module.recompile()
    return module


@contextmanager
def numerics(library: ModuleType, place: Place) -> Iterator[None]:
    """Everything about arithmetic that torch keeps for the process or the thread, as the place says."""
    library.set_num_threads(place.threads)
    with ExitStack() as stack:
        stack.enter_context(library.inference_mode())
        if place.precision in REDUCED:
            dtype = getattr(library, place.precision)
            stack.enter_context(library.autocast(place.kind, dtype=dtype))
        if place.kind == "cuda":
            rounding = "tf32" if place.precision == "tf32" else "ieee"
            library.backends.cuda.matmul.fp32_precision = rounding
            library.backends.cudnn.conv.fp32_precision = rounding
            library.backends.cudnn.rnn.fp32_precision = rounding
            before = library.are_deterministic_algorithms_enabled()
            library.use_deterministic_algorithms(True)
            stack.callback(library.use_deterministic_algorithms, before)
        yield


def _version(library: ModuleType, place: Place) -> str:
    """Such as `2.13.0+cpu`; on a GPU with cuDNN and the GPU's name, which move bits as well."""
    if place.kind != "cuda":
        return str(library.__version__)
    gpu = library.cuda.get_device_name(place.index)
    return f"{library.__version__}, cuDNN {library.backends.cudnn.version()}, {gpu}"


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
