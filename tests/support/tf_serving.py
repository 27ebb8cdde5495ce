"""The REST API of TensorFlow Serving, as its documentation and its sources have it; the models are numpy.

https://www.tensorflow.org/tfx/serving/api_rest: status, metadata and predict of models, versions and labels;
tensors by rows or by columns, strings as text or base64, errors as `{"error": …}` with status 400 or 404.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import numpy.typing as npt
from tests import tiny_text

Array = npt.NDArray[Any]
PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?(/metadata|:predict)?")
TYPES = {"DT_INT64": "int64", "DT_FLOAT": "float32", "DT_BOOL": "bool", "DT_STRING": "object"}
KINDS = {"int64": int, "float32": (int, float), "bool": bool, "object": (str, dict)}
Tensor = tuple[str, tuple[int, ...]]
"""Type, and shape with -1 where it is free."""


@dataclass(frozen=True)
class Servable:
    """One version of a model, with one signature."""

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    compute: Callable[[Mapping[str, Array]], Mapping[str, Array]]
    signature: str = "serving_default"


@dataclass
class TfServing:
    """Models by name and version, their labels, and the states that are not AVAILABLE."""

    port: int = 0
    models: dict[str, dict[int, Servable]] = field(default_factory=dict)
    labels: dict[tuple[str, str], int] = field(default_factory=dict)
    states: dict[tuple[str, int], str] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    authorizations: set[str | None] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, method: str, path: str, body: bytes) -> Any:
        """The document of a 200.

        Raises:
            Problem: With the status and words of an error.
        """
        found = PATH.fullmatch(path)
        wanted = {None: "GET", "/metadata": "GET", ":predict": "POST"}
        if found is None or wanted[found[4]] != method:
            raise Problem(400, f"Malformed request: {method} {path}")
        name, number, label, action = found.groups()
        if action is None:
            return self._status(name, None if number is None else int(number))
        version, servable = self._servable(name, number, label)
        return _metadata(name, version, servable) if action == "/metadata" else predict(servable, body)

    def _status(self, name: str, version: int | None) -> Any:
        versions = self.models.get(name, {})
        chosen = [each for each in sorted(versions, reverse=True) if version in {None, each}]
        if not chosen:
            at = "" if version is None else f" with version {version}"
            raise Problem(404, f"Could not find any versions of model {name}{at}")
        return {
            "model_version_status": [
                {
                    "version": str(each),
                    "state": self.states.get((name, each), "AVAILABLE"),
                    "status": {"error_code": "OK", "error_message": ""},
                }
                for each in chosen
            ]
        }

    def _servable(self, name: str, number: str | None, label: str | None) -> tuple[int, Servable]:
        versions = {
            version: servable
            for version, servable in self.models.get(name, {}).items()
            if (name, version) not in self.states
        }
        asked = f"Latest({name})" if number is None else f"Specific({name}, {number})"
        if label is not None:
            number = str(self.labels.get((name, label), ""))
        version = int(number) if number else max(versions, default=0)
        if version not in versions:
            raise Problem(404, f"Servable not found for request: {asked}")
        return version, versions[version]


class Problem(Exception):
    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


def tiny(*, dimension: int, seed: int = 0) -> Servable:
    """The tiny text model."""
    tokens = ("DT_INT64", (-1, -1))
    weights = tiny_text.weights(dimension=dimension, seed=seed)

    def compute(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        ids, mask = feeds["input_ids"], feeds["attention_mask"]
        if ids.size and ids.max() >= len(weights["table"]):
            raise Problem(400, f"indices[0,0] = {ids.max()} is not in [0, {len(weights['table'])})")
        states = np.tanh(weights["table"][ids] + weights["positions"][: ids.shape[1]])
        vectors = (states * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        return {"vectors": vectors.astype(np.float32)}

    inputs = {"input_ids": tokens, "attention_mask": tokens}
    return Servable(inputs, {"vectors": ("DT_FLOAT", (-1, dimension))}, compute)


def predict(servable: Servable, body: bytes) -> Any:
    """Of a request by columns."""
    try:
        document = json.loads(body)
    except ValueError as error:
        raise Problem(400, f"JSON Parse error: {error}") from error
    name = document.get("signature_name") or "serving_default"
    if name != servable.signature:
        raise Problem(400, f'Serving signature name: "{name}" not found in signature def')
    columns = document.get("inputs")
    if not isinstance(columns, dict):
        raise Problem(400, "Missing 'inputs' or 'instances' key")
    if set(columns) != set(servable.inputs):
        missing = ", ".join(sorted(set(servable.inputs) - set(columns)))
        raise Problem(400, f"Missing named inputs: {missing}")
    feeds = {key: _tensor(columns[key], *servable.inputs[key]) for key in columns}
    made = {key: array.tolist() for key, array in servable.compute(feeds).items()}
    return {"outputs": made if len(made) > 1 else next(iter(made.values()))}


def _tensor(values: Any, kind: str, shape: tuple[int, ...]) -> Array:
    dtype = TYPES[kind]
    _check_leaves(values, len(shape), dtype, kind)
    array = np.empty((), np.object_) if not shape else np.array(_decoded(values), dtype)
    if any(size not in {-1, there} for size, there in zip(shape, array.shape, strict=True)):
        raise Problem(400, f"Tensor has the shape {list(array.shape)}, expected {list(shape)}")
    return array


def _check_leaves(values: Any, levels: int, dtype: str, kind: str) -> None:
    if levels == 0:
        right = KINDS[dtype]
        if not isinstance(values, right) or (isinstance(values, bool) and dtype != "bool"):  # type: ignore[arg-type]
            raise Problem(400, f"JSON Value: {values} is not of expected type: {kind[3:].lower()}")
        return
    if not isinstance(values, list):
        raise Problem(400, f"JSON Value: {values} found at incorrect level: {levels}")
    for each in values:
        _check_leaves(each, levels - 1, dtype, kind)


def _decoded(values: Any) -> Any:
    if isinstance(values, list):
        return [_decoded(each) for each in values]
    if isinstance(values, dict):
        return base64.b64decode(values["b64"], validate=True)
    return values.encode() if isinstance(values, str) else values


def _metadata(name: str, version: int, servable: Servable) -> Any:
    def infos(tensors: Mapping[str, Tensor]) -> Any:
        return {
            key: {
                "dtype": kind,
                "tensor_shape": {
                    "dim": [{"size": str(size), "name": ""} for size in shape],
                    "unknown_rank": False,
                },
                "name": f"{servable.signature}_{key}:0",
            }
            for key, (kind, shape) in tensors.items()
        }

    signature = {
        "inputs": infos(servable.inputs),
        "outputs": infos(servable.outputs),
        "method_name": "tensorflow/serving/predict",
    }
    return {
        "model_spec": {"name": name, "signature_name": "", "version": str(version)},
        "metadata": {"signature_def": {"signature_def": {servable.signature: signature}}},
    }


@contextlib.contextmanager
def tf_serving() -> Iterator[TfServing]:
    """A server on 127.0.0.1, until the block ends."""
    state = TfServing()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["Content-Length"])))

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base has it
            pass

        def _answer(self, body: bytes) -> None:
            state.asked[self.path] += 1
            state.authorizations.add(self.headers["Authorization"])
            status = 200
            try:
                document = state.answer(self.command, self.path, body)
            except Problem as problem:
                status, document = problem.status, {"error": str(problem)}
            said = json.dumps(document, indent=4).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        state.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, name="tf-serving")
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
