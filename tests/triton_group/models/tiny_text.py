"""What Triton's Python backend runs: the tiny text model, in numpy alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as backend


class TritonPythonModel:
    """`vectors` of `input_ids` and `attention_mask`, by the weights beside this file."""

    def initialize(self, args: dict[str, str]) -> None:
        folder = Path(args["model_repository"]) / args["model_version"]
        self.weights = dict(np.load(folder / "weights.npz"))

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        ids, mask = (
            backend.get_input_tensor_by_name(request, name).as_numpy()
            for name in ("input_ids", "attention_mask")
        )
        states = np.tanh(self.weights["table"][ids] + self.weights["positions"][: ids.shape[1]])
        vectors = (states * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        return backend.InferenceResponse([backend.Tensor("vectors", vectors.astype(np.float32))])
