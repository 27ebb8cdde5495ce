"""Every operation of the API's document, and requests that it answers."""

from __future__ import annotations

import http.client
import json
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

from embedmill.serving.app import make_app
from embedmill.serving.depends import Server

HEADER_LENGTH = "Inference-Header-Content-Length"
KNOWN = {"name": "test-item", "version": "1", "id": "s7"}
"""Parts of addresses that mean something; others are cut by whoever adds an address."""


class Operation(NamedTuple):
    method: str
    path: str

    @property
    def label(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def address(self) -> str:
        """The path with parts that are known."""
        return self.path.format_map(_Known(KNOWN))


class _Known(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "1"


class Request(NamedTuple):
    body: bytes
    headers: Mapping[str, str]


def document() -> dict[str, Any]:
    """The document of the API: it is the same for every release."""
    found: dict[str, Any] = make_app(Server(cast("Any", None))).openapi()
    return found


def operations() -> list[Operation]:
    return [
        Operation(method.upper(), path) for path, methods in document()["paths"].items() for method in methods
    ]


def send(
    url: str, method: str, address: str, request: Request, *, timeout_s: float = 120
) -> tuple[int, bytes]:
    """Status and body of an answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request(method, address, request.body, dict(request.headers))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def as_json(document: Any) -> Request:
    return Request(json.dumps(document).encode(), {"Content-Type": "application/json"})


def as_tensors(field: str, values: list[bytes]) -> Request:
    """A request of the Open Inference Protocol whose tensor is bytes."""
    raw = b"".join(struct.pack("<I", len(value)) + value for value in values)
    tensor = {"name": field, "shape": [len(values)], "datatype": "BYTES"}
    said = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": len(raw)}}]}).encode()
    return Request(said + raw, {HEADER_LENGTH: str(len(said)), "Content-Type": "application/octet-stream"})
