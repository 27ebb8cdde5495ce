"""What Triton's Python backend runs: an answer that has something of every input, whatever its type."""

from __future__ import annotations

from typing import Any

import numpy as np
import triton_python_backend_utils as backend

INPUTS = ("words", "flags", "halves")


class TritonPythonModel:
    """`vectors`, float16[N, 3]: bytes of the words, flags that are set, sums of the halves."""

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        words, flags, halves = (backend.get_input_tensor_by_name(request, name).as_numpy() for name in INPUTS)
        sizes = [sum(map(len, row)) for row in words]
        vectors = np.stack([sizes, flags.sum(axis=1), halves.sum(axis=1)], axis=1)
        return backend.InferenceResponse([backend.Tensor("vectors", vectors.astype(np.float16))])
