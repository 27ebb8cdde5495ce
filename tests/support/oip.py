"""A server of a model repository that `deploy triton` laid out: the Open Inference Protocol, without Triton.

    python tests/support/oip.py REPOSITORY PORT

Models are loaded and asked as Triton's Python backend does it. Tensors come in binary and go out in JSON.
"""

from __future__ import annotations

import contextlib
import json
import re
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from embedmill.deploy.triton_model import DeployedModel
from embedmill.model.raw_tensors import field_tensors

Array = npt.NDArray[Any]
PATH = re.compile(r"/v2/models/([^/]+)/versions/(\d+)(/config|/infer|)")
DATATYPES = {"string": "BYTES", "float64": "FP64", "bool": "BOOL"}
DTYPES = {"FP64": "<f8", "BOOL": "?"}
HEADER = "Inference-Header-Content-Length"


@dataclass
class Faults:
    """What the server does wrong. `answer` gets a model's name and its vectors, and gives others."""

    answer: Callable[[str, Array], Array] = lambda _, vectors: vectors
    model: Callable[[str], str] = lambda name: name
    """Which model answers for the one that was asked."""
    config: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    any_version: bool = False
    output: str = "embedding"
    datatype: str = "FP32"
    refusal: Any = None


@dataclass
class OipServer:
    """Models by name and version, and the words of the last refusal."""

    models: dict[tuple[str, str], DeployedModel]
    faults: Faults = field(default_factory=Faults)
    most_rows: int = 32
    port: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def load(cls, repository: Path) -> OipServer:
        folders = [file.parent for file in sorted(repository.glob("*/*/deployed.json"))]
        return cls({(each.parent.name, each.name): DeployedModel.load(each) for each in folders})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Any]:
        """Status, and document."""
        if path == "/v2":
            return 200, {
                "name": "tests",
                "version": "1",
                "extensions": ["binary_tensor_data", "model_configuration"],
            }
        if path == "/v2/health/ready":
            return 200, {}
        found = PATH.fullmatch(path)
        name, version, action = found.groups() if found is not None else ("", "", "")
        if self.faults.any_version:
            version = next((there for model, there in self.models if model == name), version)
        if (name, version) not in self.models:
            return 404, self.faults.refusal or {"error": f"Request for unknown model: {name!r} {version}"}
        model = self.models[name, version]
        match action:
            case "/config":
                return 200, self._config(model) | self.faults.config
            case "/infer":
                return self._infer(name, version, headers, body)
        return 200, self._metadata(name, version, model) | self.faults.metadata

    def _infer(self, name: str, version: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Any]:
        head = int(headers[HEADER])
        tensors = _tensors(json.loads(body[:head]), body[head:])
        if len(next(iter(tensors.values()))) > self.most_rows:
            return 400, {"error": "the batch is too large"}
        with self.lock:
            (made,) = self.models[self.faults.model(name), version].answer([tensors])
        if isinstance(made, str):
            return 400, {"error": made}
        vectors = self.faults.answer(name, made)
        output = {
            "name": self.faults.output,
            "datatype": self.faults.datatype,
            "shape": list(vectors.shape),
            "data": vectors.ravel().tolist(),
        }
        return 200, {"model_name": name, "model_version": version, "outputs": [output]}

    def _metadata(self, name: str, version: str, model: DeployedModel) -> dict[str, Any]:
        inputs = model.encoder.package.inputs(model.encoder.name)
        return {
            "name": name,
            "versions": [version],
            "platform": "python",
            "inputs": [
                {"name": each, "datatype": DATATYPES[spec.dtype], "shape": [-1, 1]}
                for each, spec in field_tensors(inputs).items()
            ],
            "outputs": [
                {
                    "name": self.faults.output,
                    "datatype": self.faults.datatype,
                    "shape": [-1, model.encoder.dimension],
                }
            ],
        }

    def _config(self, model: DeployedModel) -> dict[str, Any]:
        deployed = model.deployed
        labels = {
            "embedmill-release": deployed.release,
            "embedmill-release-number": str(deployed.number),
            "embedmill-model": deployed.package_digest,
        }
        parameters = {name: {"string_value": value} for name, value in labels.items()}
        return {"max_batch_size": self.most_rows, "parameters": parameters}


def _tensors(head: Any, data: bytes) -> dict[str, Array]:
    found, at = {}, 0
    for each in head["inputs"]:
        size = each["parameters"]["binary_data_size"]
        part, at = data[at : at + size], at + size
        flat = (
            _strings(part) if each["datatype"] == "BYTES" else np.frombuffer(part, DTYPES[each["datatype"]])
        )
        found[each["name"]] = flat.reshape(each["shape"])
    return found


def _strings(data: bytes) -> Array:
    values, at = [], 0
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        values.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    array = np.empty(len(values), np.object_)
    array[:] = values
    return array


def listening(state: OipServer, port: int = 0) -> ThreadingHTTPServer:
    """A server on 127.0.0.1, that serves once it is told to."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["Content-Length"])))

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base has it
            pass

        def _answer(self, body: bytes) -> None:
            status, document = state.answer(self.command, self.path, self.headers, body)  # type: ignore[arg-type]
            said = document.encode() if isinstance(document, str) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    state.port = server.server_port
    return server


@contextlib.contextmanager
def oip_server(repository: Path, faults: Faults | None = None) -> Iterator[OipServer]:
    """A server in this process, until the block ends."""
    state = OipServer.load(repository)
    state.faults = faults or state.faults
    with listening(state) as server:
        thread = threading.Thread(target=server.serve_forever, name="oip")
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
            for model in state.models.values():
                model.close()


def main(arguments: Sequence[str]) -> None:
    repository, port = arguments
    with listening(OipServer.load(Path(repository)), int(port)) as server:
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
