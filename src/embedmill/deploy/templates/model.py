"""What Triton's Python backend runs: an encoder of a release of Embedmill, which is installed beside it.

What is loaded is named in deployed.json, beside this file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import triton_python_backend_utils as backend

from embedmill.deploy.triton_model import DeployedModel


class TritonPythonModel:
    """`embedding`, float32[N, D], of the fields that the encoder reads."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model, and let it prove itself: Triton never answers with one that fails."""
        folder = Path(args["model_repository"]) / args["model_version"]
        on_gpu = args["model_instance_kind"] == "GPU"
        device = f"cuda:{args['model_instance_device_id']}" if on_gpu else "cpu"
        self.model = DeployedModel.load(folder, device=device)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Embed the rows of all requests together."""
        return [_response(answer) for answer in self.model.answer([_tensors(each) for each in requests])]

    def finalize(self) -> None:
        """End the processes that decode images."""
        self.model.close()


def _tensors(request: Any) -> dict[str, Any]:
    return {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}


def _response(answer: Any) -> Any:
    if isinstance(answer, str):
        return backend.InferenceResponse([], error=backend.TritonError(answer))
    return backend.InferenceResponse([backend.Tensor("embedding", answer)])
