"""The Open Inference Protocol (KServe v2), over HTTP with its binary tensor extension.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol, and Triton's extensions:
https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_binary_data.html
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from embedmill.errors import ModelError
from embedmill.runtimes.base import TensorSpec
from embedmill.runtimes.remote.base import Description, Feeds, answer_bytes, as_bytes, rows_of
from embedmill.runtimes.remote.http import Answer, HttpServer, parse_json
from embedmill.spec import TritonSpec

DTYPES = {
    "BOOL": "bool",
    **{f"UINT{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "BYTES": "string",
}
DATATYPES = {dtype: datatype for datatype, dtype in DTYPES.items()}
HEADER_LENGTH = "Inference-Header-Content-Length"


class KServeHttp:
    """A model at a Triton; see `ModelServer`."""

    def __init__(self, spec: TritonSpec, url: str, *, said_by: str) -> None:
        """Connect to nothing yet."""
        self._http = HttpServer(url, timeout_s=spec.timeout_s)
        self._path = f"/v2/models/{quote(spec.model, safe='')}/versions/{spec.version}"
        self._version, self._said_by = str(spec.version), said_by

    async def describe(self) -> Description:
        """Ask what the model is fed, and what it gives."""
        server = await self._http.get_json("/v2")
        model = await self._http.get_json(self._path)
        try:
            limited = "model_configuration" in server["extensions"]
            config = await self._http.get_json(f"{self._path}/config") if limited else {}
            return Description(
                server=str(server["version"]),
                version=self._version_of(model["versions"]),
                inputs=specs((t["name"], t["datatype"], t["shape"]) for t in model["inputs"]),
                outputs=specs((t["name"], t["datatype"], t["shape"]) for t in model["outputs"]),
                max_batch=int(config.get("max_batch_size", 0)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"{self._said_by}: describes itself as no Triton does: {error!r}") from error

    async def infer(self, feeds: Feeds, output: TensorSpec) -> npt.NDArray[Any]:
        """Compute one output."""
        header, tensors = binary_request(feeds, output)
        answer = await self._http.ask(
            "POST",
            f"{self._path}/infer",
            body=b"".join([header, *tensors]),
            headers={HEADER_LENGTH: str(len(header)), "Content-Type": "application/octet-stream"},
            limit_bytes=answer_bytes(rows_of(feeds), output, value_bytes=8),
        )
        try:
            return self._tensor(answer, output)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"{self._said_by}: answered no tensor: {error!r}") from error

    async def close(self) -> None:
        """Close connections."""
        await self._http.close()

    def _version_of(self, versions: Any) -> str:
        return self._version if self._version in map(str, versions) else ", ".join(map(str, versions))

    def _tensor(self, answer: Answer, output: TensorSpec) -> npt.NDArray[Any]:
        return binary_answer(answer, output, self._version, said_by=self._said_by)


def binary_answer(answer: Answer, output: TensorSpec, version: str, *, said_by: str) -> npt.NDArray[Any]:
    """The values of one output of an answer, whose version must be the one that was asked.

    Raises:
        ModelError: The version or the type is another one.
        KeyError, TypeError, ValueError, AttributeError: It is no answer of that kind.
    """
    length = int(answer.headers.get(HEADER_LENGTH.lower(), len(answer.body)))
    header = parse_json(answer.body[:length], said_by=said_by)
    check_version(header.get("model_version", version), version, said_by=said_by)
    (found,) = [each for each in header["outputs"] if each["name"] == output.name]
    data = answer.body[length:]
    if found["parameters"]["binary_data_size"] != len(data):
        raise ValueError(f"{len(data)} bytes, of {found['parameters']['binary_data_size']}")
    return tensor(data, found["datatype"], found["shape"], output, said_by=said_by)


def specs(tensors: Iterable[tuple[str, str, Iterable[int | str]]]) -> dict[str, TensorSpec]:
    """What a model is fed or gives, of (name, datatype, shape); -1 is a free size."""
    return {
        str(name): TensorSpec(
            str(name),
            DTYPES.get(datatype, str(datatype).lower()),
            tuple(None if int(size) < 0 else int(size) for size in shape),
        )
        for name, datatype, shape in tensors
    }


def tensor(
    data: bytes, datatype: str, shape: Iterable[int | str], output: TensorSpec, *, said_by: str
) -> npt.NDArray[Any]:
    """The values of an answer's tensor.

    Raises:
        ModelError: It has another type than the output, or one that is no number.
        ValueError: Bytes and shape do not fit.
    """
    dtype = DTYPES.get(datatype, "string")
    if dtype == "string" or dtype != output.dtype:
        raise ModelError(f"{said_by}: answered {datatype}, and its output is {output}")
    sizes = [int(size) for size in shape]
    if any(size < 0 for size in sizes):  # numpy would work them out
        raise ValueError(f"the shape {sizes}")
    return np.frombuffer(data, np.dtype(dtype).newbyteorder("<")).reshape(sizes)


def check_version(said: Any, version: str, *, said_by: str) -> None:
    """Fail unless an answer is of the version that was asked.

    Raises:
        ModelError: It is not.
    """
    if str(said) != version:
        raise ModelError(
            f"{said_by}: version {said} answered where {version} was asked",
            hint="vectors of two models must never be mixed: look at what the server, or a gateway, does",
        )


def binary_request(feeds: Feeds, output: TensorSpec) -> tuple[bytes, list[bytes]]:
    """The JSON head of a request, and the tensors that stand behind it."""
    tensors = {name: _binary(array) for name, array in feeds.items()}
    inputs: list[Mapping[str, Any]] = [
        {
            "name": name,
            "datatype": datatype_of(array),
            "shape": list(array.shape),
            "parameters": {"binary_data_size": len(tensors[name])},
        }
        for name, array in feeds.items()
    ]
    outputs = [{"name": output.name, "parameters": {"binary_data": True}}]
    return json.dumps({"inputs": inputs, "outputs": outputs}).encode(), list(tensors.values())


def datatype_of(array: npt.NDArray[Any]) -> str:
    """The protocol's name of an array's type, which `check_requests` found to be the input's."""
    return "BYTES" if array.dtype.kind in "OSU" else DATATYPES[array.dtype.name]


def _binary(array: npt.NDArray[Any]) -> bytes:
    """Little-endian values in row-major order; a string is its length, as uint32, and its bytes."""
    if array.dtype.kind in "OSU":
        return b"".join(struct.pack("<I", len(each)) + each for each in as_bytes(array).ravel())
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
