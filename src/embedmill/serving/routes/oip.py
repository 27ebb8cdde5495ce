"""`/v2/…`: the Open Inference Protocol (KServe v2), over the fields that an encoder reads.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol. Inputs are the encoder's
fields, as tensors of shape [N]; the output is `embedding`, FP32[N, D]. How tensors travel: `tensors.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version as installed
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from embedmill.errors import RequestRefused
from embedmill.serving.depends import Answering, TheServer
from embedmill.serving.requests.embedding import embed_rows, refuse_count
from embedmill.serving.requests.models import check_version, encoder_named, version_of
from embedmill.serving.requests.rows import field_types, rows_of
from embedmill.serving.requests.shapes import PlainError, errors_like, inline_schema, plain, route_with
from embedmill.serving.requests.tensors import OUTPUT, InferHeader, InferRequest, read_request, written
from embedmill.serving.requests.texts import field_values
from embedmill.serving.routes.health import healthz, readyz
from embedmill.spec.serving import served_model

if TYPE_CHECKING:
    from embedmill.serving.depends import Server
    from embedmill.serving.served import Served

HEADER_LENGTH = "inference-header-content-length"
OK, UNSUPPORTED = 200, 415
BODY: Mapping[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": inline_schema(InferHeader)},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    },
}

router = APIRouter(
    tags=["Open Inference Protocol"], route_class=route_with(plain), responses=errors_like(PlainError)
)


@router.get("/v2")
async def server_metadata() -> dict[str, Any]:
    """What answers here."""
    return {"name": "embedmill", "version": installed("embedmill"), "extensions": ["binary_tensor_data"]}


@router.get("/v2/health/live")
async def live(server: TheServer) -> Response:
    """As `/healthz`."""
    status = (await healthz(server)).status_code
    return JSONResponse({"live": status == OK}, status)


@router.get("/v2/health/ready")
async def ready(server: TheServer, served: Answering) -> Response:
    """As `/readyz`."""
    return await _readiness(server, served)


@router.get("/v2/models/{name}")
async def model_metadata(name: str, served: Answering) -> dict[str, Any]:
    """What a model reads, and what it makes."""
    return _metadata(served, encoder_named(served, name))


@router.get("/v2/models/{name}/versions/{version}")
async def version_metadata(name: str, version: str, served: Answering) -> dict[str, Any]:
    """The same, of this version and no other."""
    check_version(served, version)
    return _metadata(served, encoder_named(served, name))


@router.get("/v2/models/{name}/ready")
async def model_ready(name: str, server: TheServer, served: Answering) -> Response:
    """Whether a model is there, and the server ready."""
    encoder_named(served, name)
    return await _readiness(server, served)


@router.get("/v2/models/{name}/versions/{version}/ready")
async def version_ready(name: str, version: str, server: TheServer, served: Answering) -> Response:
    """Whether this version is there, and the server ready."""
    check_version(served, version)
    return await model_ready(name, server, served)


@router.post("/v2/models/{name}/infer", openapi_extra=dict(BODY))
async def infer(name: str, request: Request, server: TheServer, served: Answering) -> Response:
    """The vectors of rows."""
    encoder = encoder_named(served, name)
    if request.headers.get("content-encoding", "identity") != "identity":
        raise RequestRefused("the body is compressed", hint="send it as it is", status=UNSUPPORTED)
    asked = read_request(
        await request.body(),
        request.headers.get(HEADER_LENGTH),
        lambda count: refuse_count(count, server.limits),
    )
    return await _inferred(served, server, encoder, asked)


@router.post("/v2/models/{name}/versions/{version}/infer", openapi_extra=dict(BODY))
async def infer_by_version(
    name: str, version: str, request: Request, server: TheServer, served: Answering
) -> Response:
    """The same, by this version and no other."""
    check_version(served, version)
    return await infer(name, request, server, served)


async def _inferred(served: Served, server: Server, encoder: str, asked: InferRequest) -> Response:
    loaded = served.lane(encoder).encoder
    kinds = field_types(loaded)
    columns = {
        field: field_values(field, values, kinds.get(field)) for field, values in asked.columns.items()
    }
    vectors_ND = await embed_rows(served, server.limits, encoder, rows_of(loaded, columns))
    name = served_model(served.pipeline, encoder)
    body, header_length = written(asked.header, name, version_of(served), vectors_ND)
    if header_length is None:
        return Response(body, media_type="application/json")
    return Response(body, media_type="application/octet-stream", headers={HEADER_LENGTH: str(header_length)})


def _metadata(served: Served, encoder: str) -> dict[str, Any]:
    loaded = served.lane(encoder).encoder
    return {
        "name": served_model(served.pipeline, encoder),
        "versions": [version_of(served)],
        "platform": f"embedmill_{loaded.profile.runtime}",
        "inputs": [
            {"name": field, "datatype": _datatype(kind), "shape": [-1]}
            for field, kind in field_types(loaded).items()
        ],
        "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, loaded.dimension]}],
    }


async def _readiness(server: Server, served: Served) -> Response:
    status = (await readyz(server, served)).status_code
    return JSONResponse({"ready": status == OK}, status)


def _datatype(kind: pa.DataType | None) -> str:
    """Numbers are FP64, as the catalog had them; texts, files and lists, as JSON, are BYTES."""
    if kind is not None and pa.types.is_floating(kind):
        return "FP64"
    return "BOOL" if kind is not None and pa.types.is_boolean(kind) else "BYTES"
