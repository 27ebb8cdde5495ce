"""The REST API of TensorFlow Serving (https://www.tensorflow.org/tfx/serving/api_rest)."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from embedmill.errors import ModelError
from embedmill.runtimes.base import TensorSpec
from embedmill.runtimes.remote.base import (
    Description,
    Feeds,
    NotThere,
    Unanswered,
    answer_bytes,
    one_line,
    rows_of,
)
from embedmill.runtimes.remote.http import HttpServer, parse_json
from embedmill.spec import TfServingSpec

DTYPES = {
    "DT_FLOAT": "float32",
    "DT_DOUBLE": "float64",
    "DT_HALF": "float16",
    "DT_BOOL": "bool",
    "DT_STRING": "string",
    **{f"DT_INT{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"DT_UINT{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
}
COMING = frozenset({"START", "LOADING", "UNLOADING", "UNKNOWN"})
"""States of a version that may be available soon."""
NUMBER_BYTES = 64
"""What a number of an answer may take: its digits, and 16 spaces on a line of its own."""
METADATA_BYTES = 4 * 1024 * 1024


class TfServing:
    """A model at a TensorFlow Serving; see `ModelServer`."""

    def __init__(self, spec: TfServingSpec, url: str, *, said_by: str) -> None:
        """Connect to nothing yet."""
        self._http = HttpServer(url, timeout_s=spec.timeout_s)
        self._path = f"/v1/models/{quote(spec.model, safe='')}/versions/{spec.version}"
        self._spec, self._said_by = spec, said_by
        self._single = False
        """Whether the signature has one output: then answers do not name it."""

    async def describe(self) -> Description:
        """Ask whether the version is there, and for the signature."""
        await self._check_state()
        answer = await self._http.ask("GET", f"{self._path}/metadata", limit_bytes=METADATA_BYTES)
        document = parse_json(answer.body, said_by=self._said_by)
        try:
            signature = self._signature(document)
            outputs = tensor_specs(signature["outputs"])
            described = Description(
                server="",
                version=str(document["model_spec"]["version"]),
                inputs=tensor_specs(signature["inputs"]),
                outputs=outputs,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"{self._said_by}: its metadata cannot be read: {error!r}") from error
        self._single = len(outputs) == 1
        return described

    async def infer(self, feeds: Feeds, output: TensorSpec) -> npt.NDArray[Any]:
        """Compute one output, by columns."""
        inputs = {name: json_values(array) for name, array in feeds.items()}
        question = {"signature_name": self._spec.signature, "inputs": inputs}
        answer = await self._http.ask(
            "POST",
            f"{self._path}:predict",
            body=json.dumps(question).encode(),
            headers={"Content-Type": "application/json"},
            limit_bytes=answer_bytes(rows_of(feeds), output, value_bytes=NUMBER_BYTES),
        )
        document = parse_json(answer.body, said_by=self._said_by)
        try:
            outputs = document["outputs"]
            return _numbers(outputs if self._single else outputs[output.name])
        except (KeyError, TypeError, ValueError) as error:
            words = one_line(repr(error))
            raise ModelError(f"{self._said_by}: answered no table of numbers: {words}") from error

    async def close(self) -> None:
        """Close connections."""
        await self._http.close()

    async def _check_state(self) -> None:
        document = await self._http.get_json(self._path)
        try:
            (found,) = document["model_version_status"]
            state = str(found["state"])
            why = str(found["status"].get("error_message", ""))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"{self._said_by}: its status cannot be read: {error!r}") from error
        if state in COMING:
            raise Unanswered(f"the version is {state}")
        if state != "AVAILABLE":
            raise NotThere(f"{self._said_by}: the version is {one_line(f'{state} {why}')}")

    def _signature(self, document: Any) -> Mapping[str, Any]:
        found: Mapping[str, Any] = document["metadata"]["signature_def"]["signature_def"]
        if self._spec.signature not in found:
            raise ModelError(
                f"{self._said_by}: has no signature {self._spec.signature!r}",
                hint=f"its signatures: {one_line(', '.join(found))}",
            )
        signature: Mapping[str, Any] = found[self._spec.signature]
        return signature


def tensor_specs(tensors: Mapping[str, Any]) -> dict[str, TensorSpec]:
    """Inputs or outputs of a signature, by name."""
    return {
        name: TensorSpec(name, DTYPES.get(info["dtype"], str(info["dtype"])), _shape(info["tensor_shape"]))
        for name, info in sorted(tensors.items())
    }


def _shape(shape: Mapping[str, Any]) -> tuple[int | None, ...]:
    """Sizes are numbers in quotes, as protobuf writes int64 in JSON; -1 is a free one."""
    sizes = [int(dimension["size"]) for dimension in shape.get("dim", [])]
    return tuple(None if size < 0 else size for size in sizes)


def json_values(array: npt.NDArray[Any]) -> Any:
    """Nested lists; bytes as objects with `b64`, which is the only form that holds them all."""
    if array.dtype.kind not in "OSU":
        return array.tolist()
    coded = np.empty(array.shape, np.object_)
    coded.ravel()[:] = [_string(each) for each in array.ravel()]
    return coded.tolist()


def _string(value: Any) -> Any:
    return value if isinstance(value, str) else {"b64": base64.b64encode(bytes(value)).decode()}


def _numbers(values: Any) -> npt.NDArray[Any]:
    """Nested lists as an array of numbers: numpy would make numbers of words, too.

    Raises:
        ValueError: Lists of unequal length, or something that is no number.
    """
    found = np.asarray(values)
    if found.dtype.kind not in "fiu":
        raise ValueError(f"values of the type {found.dtype}")
    return found
