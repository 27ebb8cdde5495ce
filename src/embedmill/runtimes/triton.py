"""Runtime `triton`: a model at a Triton Inference Server, over HTTP or gRPC."""

from __future__ import annotations

from pathlib import Path

from embedmill.errors import MissingExtra
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
    try:
        if url.startswith("grpc:"):
            from embedmill.runtimes.remote.kserve_grpc import KServeGrpc

            return KServeGrpc(spec, url, said_by=said_by)
        from embedmill.runtimes.remote.kserve import KServeHttp

        return KServeHttp(spec, url, said_by=said_by)
    except ImportError:
        raise MissingExtra("what talks to Triton", extra="triton") from None
