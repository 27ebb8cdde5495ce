"""Runtime `triton`: a model at a Triton Inference Server, over HTTP or gRPC."""

from __future__ import annotations

from pathlib import Path

from embedmill.extras import optional
from embedmill.runtimes.base import Place
from embedmill.runtimes.remote.base import ModelServer
from embedmill.runtimes.remote.runtime import RemoteModel, address, connect
from embedmill.spec import TritonSpec
from embedmill.spec.address import shown_address


def load(spec: TritonSpec, root: Path, *, place: Place) -> RemoteModel:  # noqa: ARG001 - the server has all
    """Ask a Triton for its model; see `load_runtime`."""
    url = address(spec)
    return connect(spec, _server(spec, url), url, place=place)


def _server(spec: TritonSpec, url: str) -> ModelServer:
    said_by = f"{shown_address(url)}: model {spec.model!r} {spec.version}"
    with optional("aiohttp", "aiohttp", extra="triton"):
        from embedmill.runtimes.remote.kserve import KServeHttp
        from embedmill.runtimes.remote.kserve_grpc import KServeGrpc
    return (KServeGrpc if url.startswith("grpc:") else KServeHttp)(spec, url, said_by=said_by)
