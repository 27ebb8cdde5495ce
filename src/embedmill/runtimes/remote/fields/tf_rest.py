"""The REST API of TensorFlow Serving, asked with raw fields: what Embedmill's own server answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from embedmill.errors import ModelError
from embedmill.runtimes.base import TensorSpec
from embedmill.runtimes.remote.base import Feeds, one_line, rows_of
from embedmill.runtimes.remote.fields.base import Asked, Refusal, Told, digits_bytes, labels_of
from embedmill.runtimes.remote.fields.oip import refusal_of
from embedmill.runtimes.remote.http import HttpServer, parse_json
from embedmill.runtimes.remote.tf_rest import METADATA_BYTES, json_values, tensor_specs

HEADERS: Mapping[str, str] = {"Content-Type": "application/json"}
SIGNATURE = "serving_default"


class TfFields:
    """A server that speaks TensorFlow Serving's REST API; see `FieldServer`."""

    VERSIONED = True

    def __init__(self, http: HttpServer, *, said_by: str) -> None:
        """Connect to nothing yet."""
        self._http, self._said_by = http, said_by
        self._inputs: Mapping[str, TensorSpec] = {}

    async def describe(self, asked: Asked) -> Told:
        """Ask for the version's metadata."""
        answer = await self._http.ask("GET", f"{_path(asked)}/metadata", limit_bytes=METADATA_BYTES)
        document = parse_json(answer.body, said_by=self._said_by)
        try:
            version = str(document["model_spec"]["version"])
            signatures = document["metadata"]["signature_def"]["signature_def"]
            signature = signatures[SIGNATURE] if SIGNATURE in signatures else next(iter(signatures.values()))
            inputs, outputs = tensor_specs(signature["inputs"]), tensor_specs(signature["outputs"])
        except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
            raise ModelError(f"{self._said_by}: its metadata cannot be read: {error!r}") from error
        if version != str(asked.version):
            raise ModelError(f"{self._said_by}: version {version} answered where {asked.version} was asked")
        self._inputs = inputs
        return Told(inputs=inputs, outputs=outputs, labels=labels_of(answer.headers))

    async def embed(self, asked: Asked, tensors: Feeds) -> npt.NDArray[Any]:
        """Embed, by columns."""
        answer = await self._http.ask(
            "POST",
            f"{_path(asked)}:predict",
            body=self._request(tensors),
            headers=HEADERS,
            limit_bytes=digits_bytes(rows_of(tensors), asked.output),
        )
        document = parse_json(answer.body, said_by=self._said_by)
        try:
            outputs = document["outputs"]
            return np.array(outputs[asked.output.name] if isinstance(outputs, dict) else outputs, np.float32)
        except (KeyError, TypeError, ValueError) as error:
            words = one_line(repr(error))
            raise ModelError(f"{self._said_by}: answered no table of numbers: {words}") from error

    async def refusal(self, asked: Asked, tensors: Feeds) -> Refusal | None:
        """Send a request, and see what is said of it."""
        found = await self._http.exchange(
            "POST",
            f"{_path(asked)}:predict",
            body=self._request(tensors),
            headers=HEADERS,
            limit_bytes=digits_bytes(rows_of(tensors), asked.output),
        )
        return refusal_of(found, str)

    async def close(self) -> None:
        """Close connections."""
        await self._http.close()

    def _request(self, tensors: Feeds) -> bytes:
        inputs = {name: _values(array, self._inputs.get(name)) for name, array in tensors.items()}
        return json.dumps({"signature_name": SIGNATURE, "inputs": inputs}).encode()


def _path(asked: Asked) -> str:
    return f"/v1/models/{quote(asked.model, safe='')}/versions/{asked.version}"


def _values(array: npt.NDArray[Any], spec: TensorSpec | None) -> Any:
    """Lists, which are texts in JSON elsewhere, are lists where the model has an axis for them."""
    if spec is not None and len(spec.shape) == 2 and array.ndim == 1:
        return [json.loads(each) for each in array.tolist()]
    return json_values(array)
