"""What Triton's Python backend runs: the ONNX file beside it, by ONNX Runtime, on one thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
import triton_python_backend_utils as backend


class TritonPythonModel:
    """`vectors`, the file's first output, of the inputs that the file has."""

    def initialize(self, args: dict[str, str]) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        file = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self.inputs = [found.name for found in self.session.get_inputs()]

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        tensors = {name: backend.get_input_tensor_by_name(request, name) for name in self.inputs}
        feeds = {name: tensor.as_numpy() for name, tensor in tensors.items()}
        vectors = self.session.run(None, feeds)[0]
        return backend.InferenceResponse([backend.Tensor("vectors", vectors)])
