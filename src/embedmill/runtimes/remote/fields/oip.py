"""The Open Inference Protocol (KServe v2) over HTTP: binary tensors where the server takes them, else JSON.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from embedmill.errors import ModelError
from embedmill.runtimes.base import TensorSpec
from embedmill.runtimes.remote.base import Feeds, as_bytes, one_line, rows_of
from embedmill.runtimes.remote.fields.base import Asked, Refusal, Told, digits_bytes, labels_of
from embedmill.runtimes.remote.http import TOO_MANY, Answer, Exchange, HttpServer, parse_json, unanswered
from embedmill.runtimes.remote.kserve import (
    HEADER_LENGTH,
    binary_answer,
    binary_request,
    check_version,
    datatype_of,
    specs,
)

BINARY = "binary_tensor_data"
CONFIGURATION = "model_configuration"


class OipFields:
    """A server that speaks the Open Inference Protocol; see `FieldServer`."""

    VERSIONED = True

    def __init__(self, http: HttpServer, *, said_by: str) -> None:
        """Connect to nothing yet."""
        self._http, self._said_by = http, said_by
        self._extensions: frozenset[str] | None = None
        self._inputs: dict[str, TensorSpec] = {}

    async def describe(self, asked: Asked) -> Told:
        """Ask the server and the model; a Triton also for its configuration."""
        server = await self._server()
        answer = await self._http.ask("GET", _path(asked))
        model = parse_json(answer.body, said_by=self._said_by)
        config: Any = {}
        if CONFIGURATION in await self._known():
            config = await self._http.get_json(f"{_path(asked)}/config")
        try:
            versions = [str(version) for version in model.get("versions") or [asked.version]]
            if str(asked.version) not in versions:
                raise ModelError(
                    f"{self._said_by}: model {asked.model!r} has the versions {', '.join(versions)}"
                )
            self._inputs = specs((t["name"], t["datatype"], t["shape"]) for t in model["inputs"])
            parameters = config.get("parameters", {})
            said = {name: str(parameters[name]["string_value"]) for name in parameters}
            return Told(
                server=one_line(f"{server.get('name', '')} {server.get('version', '')}"),
                inputs=self._inputs,
                outputs=specs((t["name"], t["datatype"], t["shape"]) for t in model["outputs"]),
                most_rows=int(config.get("max_batch_size", 0)),
                labels=labels_of(said) or labels_of(answer.headers),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"{self._said_by}: its metadata cannot be read: {error!r}") from error

    async def embed(self, asked: Asked, tensors: Feeds) -> npt.NDArray[Any]:
        """Compute the output."""
        binary = BINARY in await self._known()
        body, headers = _request(self._shaped(tensors), asked.output, binary=binary)
        limit_bytes = digits_bytes(rows_of(tensors), asked.output)
        answer = await self._http.ask(
            "POST", f"{_path(asked)}/infer", body=body, headers=headers, limit_bytes=limit_bytes
        )
        try:
            read = binary_answer if HEADER_LENGTH.lower() in answer.headers else _json_answer
            return read(answer, asked.output, str(asked.version), said_by=self._said_by)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            words = one_line(repr(error))
            raise ModelError(f"{self._said_by}: answered no tensor {asked.output.name!r}: {words}") from error

    async def refusal(self, asked: Asked, tensors: Feeds) -> Refusal | None:
        """Send a request, and see what is said of it."""
        body, headers = _request(self._shaped(tensors), asked.output, binary=BINARY in await self._known())
        limit_bytes = digits_bytes(rows_of(tensors), asked.output)
        found = await self._http.exchange(
            "POST", f"{_path(asked)}/infer", body=body, headers=headers, limit_bytes=limit_bytes
        )
        return refusal_of(found, str)

    async def close(self) -> None:
        """Close connections."""
        await self._http.close()

    async def _server(self) -> Any:
        server = await self._http.get_json("/v2")
        try:
            self._extensions = frozenset(map(str, server.get("extensions", ())))
        except (AttributeError, TypeError) as error:
            raise ModelError(f"{self._said_by}: /v2 is no metadata of a server: {error!r}") from error
        return server

    async def _known(self) -> frozenset[str]:
        if self._extensions is None:
            await self._server()
        return self._extensions or frozenset()

    def _shaped(self, tensors: Feeds) -> Feeds:
        """Where a server wants [N, 1] of single values, as a Triton with batches does, they are so."""
        return {name: _as_declared(array, self._inputs.get(name)) for name, array in tensors.items()}


def _as_declared(array: npt.NDArray[Any], spec: TensorSpec | None) -> npt.NDArray[Any]:
    if spec is None:
        return array
    if spec.dtype in {"float32", "float64"} and array.dtype.kind == "f":
        array = array.astype(spec.dtype)
    return array[:, None] if len(spec.shape) == 2 and array.ndim == 1 else array


def _path(asked: Asked) -> str:
    return f"/v2/models/{quote(asked.model, safe='')}/versions/{asked.version}"


def _request(tensors: Feeds, output: TensorSpec, *, binary: bool) -> tuple[bytes, dict[str, str]]:
    if binary:
        head, behind = binary_request(tensors, output)
        headers = {HEADER_LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
        return b"".join([head, *behind]), headers
    inputs = [
        {
            "name": name,
            "datatype": datatype_of(array),
            "shape": list(array.shape),
            "data": _data(array),
        }
        for name, array in tensors.items()
    ]
    document = {"inputs": inputs, "outputs": [{"name": output.name}]}
    return json.dumps(document).encode(), {"Content-Type": "application/json"}


def _data(array: npt.NDArray[Any]) -> list[Any]:
    if array.dtype.kind not in "OSU":
        return array.ravel().tolist()
    try:
        return [each.decode() for each in as_bytes(array).ravel()]
    except UnicodeDecodeError as error:
        raise ModelError(
            "the server takes no binary tensors, and JSON has no form for bytes that are no text",
            hint="ask it by another protocol",
        ) from error


def _json_answer(answer: Answer, output: TensorSpec, version: str, *, said_by: str) -> npt.NDArray[Any]:
    document = parse_json(answer.body, said_by=said_by)
    check_version(document.get("model_version", version), version, said_by=said_by)
    (found,) = [each for each in document["outputs"] if each["name"] == output.name]
    if found["datatype"] != "FP32":
        raise ModelError(f"{said_by}: answered {found['datatype']}, and its output is {output}")
    return np.array(found["data"], np.float32).reshape([int(size) for size in found["shape"]])


def refusal_of(found: Exchange, kind: type) -> Refusal | None:
    """What the answer to a request says that should be refused; None where it is an answer.

    Raises:
        Unanswered: It says nothing of this request: the caller has asked too often, and is told when to come.
    """
    if found.status == 200:
        return None
    if found.status == TOO_MANY and unanswered(found).limited:
        raise unanswered(found)
    return Refusal(found.status, found.said, has_error(found, kind))


def has_error(found: Exchange, kind: type) -> bool:
    """Whether an answer is a 4xx with a JSON object that has an `error` of that type."""
    try:
        document = json.loads(found.body)
    except (ValueError, RecursionError):
        return False
    named = isinstance(document, dict) and isinstance(document.get("error"), kind)
    return named and 400 <= found.status < 500
