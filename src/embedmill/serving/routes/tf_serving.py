"""`/v1/models/…`: the REST API of TensorFlow Serving, over the fields that an encoder reads.

https://www.tensorflow.org/tfx/serving/api_rest. `/v1/models/{name}` itself is in `openai.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from fastapi import APIRouter, Request
from pydantic_core import from_json, to_json
from starlette.responses import Response

from embedmill.errors import RequestRefused
from embedmill.serving.depends import Answering, TheServer
from embedmill.serving.requests.embedding import embed_rows, refuse_count
from embedmill.serving.requests.models import check_version, encoder_named, version_of
from embedmill.serving.requests.rows import BASE64, bytes_of, field_types, rows_of
from embedmill.serving.requests.shapes import PlainError, errors_like, plain, route_with
from embedmill.serving.requests.texts import text_of
from embedmill.spec.serving import served_model

if TYPE_CHECKING:
    from embedmill.serving.depends import Server
    from embedmill.serving.served import Served

SIGNATURE = "serving_default"
OUTPUT = "embedding"
ROWS, COLUMNS = "instances", "inputs"
BODY: Mapping[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "signature_name": {"type": "string", "const": SIGNATURE},
                        ROWS: {
                            "type": "array",
                            "description": "Rows: objects, or values of the only field.",
                        },
                        COLUMNS: {"description": "Columns: arrays by name, or that of the only field."},
                    },
                }
            }
        },
    }
}

router = APIRouter(
    tags=["TensorFlow Serving"], route_class=route_with(plain), responses=errors_like(PlainError)
)


def version_status(served: Served) -> dict[str, Any]:
    """The status of a model: the release is its only version."""
    status = {"error_code": "OK", "error_message": ""}
    return {"model_version_status": [{"version": version_of(served), "state": "AVAILABLE", "status": status}]}


@router.get("/v1/models/{name}/versions/{version}")
async def status(name: str, version: str, served: Answering) -> dict[str, Any]:
    """Whether this version is served."""
    encoder_named(served, name)
    check_version(served, version)
    return version_status(served)


@router.get("/v1/models/{name}/metadata")
async def metadata(name: str, served: Answering) -> dict[str, Any]:
    """What the model reads, and what it makes."""
    return _metadata(served, encoder_named(served, name))


@router.get("/v1/models/{name}/versions/{version}/metadata")
async def metadata_of_version(name: str, version: str, served: Answering) -> dict[str, Any]:
    """What this version reads, and what it makes."""
    check_version(served, version)
    return _metadata(served, encoder_named(served, name))


@router.post("/v1/models/{name}:predict", openapi_extra=dict(BODY))
async def predict(name: str, request: Request, served: Answering, server: TheServer) -> Response:
    """The vectors of rows (`instances`) or columns (`inputs`)."""
    return await _predicted(served, server, encoder_named(served, name), await request.body())


@router.post("/v1/models/{name}/versions/{version}:predict", openapi_extra=dict(BODY))
async def predict_by_version(
    name: str, version: str, request: Request, served: Answering, server: TheServer
) -> Response:
    """The same, by this version and no other."""
    check_version(served, version)
    return await _predicted(served, server, encoder_named(served, name), await request.body())


async def _predicted(served: Served, server: Server, encoder: str, body: bytes) -> Response:
    document = _document(body)
    types = field_types(served.lane(encoder).encoder)
    if ROWS in document:
        refuse_count(len(_list(document[ROWS], ROWS)), server.limits)
        columns, answer = _of_rows(document[ROWS], list(types)), "predictions"
    else:
        columns, answer = _of_columns(document[COLUMNS], list(types)), "outputs"
    plain_columns = {field: _plain(field, values, types.get(field)) for field, values in columns.items()}
    rows = rows_of(served.lane(encoder).encoder, plain_columns)
    vectors_ND = await embed_rows(served, server.limits, encoder, rows)
    return Response(to_json({answer: vectors_ND.tolist()}), media_type="application/json")


def _document(body: bytes) -> Mapping[str, Any]:
    try:
        document = from_json(body)
    except ValueError as error:
        raise RequestRefused(f"the body is no JSON: {error}") from None
    if not isinstance(document, dict) or (ROWS in document) == (COLUMNS in document):
        raise RequestRefused(f"the body has not one of {ROWS!r} and {COLUMNS!r}", hint="send one of them")
    signature = document.get("signature_name") or SIGNATURE
    if signature != SIGNATURE:
        raise RequestRefused(f"there is no signature {signature!r}", hint=f"there is {SIGNATURE!r} alone")
    return document


def _of_rows(rows: Sequence[Any], fields: Sequence[str]) -> dict[str, list[Any]]:
    """Columns of rows that are objects, or plain values of the only field."""
    named = [row for row in rows if isinstance(row, dict) and not (len(fields) == 1 and set(row) == {BASE64})]
    if not named:
        return {_only(fields): list(rows)}
    if len(named) < len(rows):
        raise RequestRefused(f"{ROWS}: some are objects and some are not")
    there = dict.fromkeys(field for row in named for field in row)
    return {field: [row.get(field) for row in named] for field in there}


def _of_columns(columns: Any, fields: Sequence[str]) -> dict[str, list[Any]]:
    if isinstance(columns, dict):
        return {field: _list(values, field) for field, values in columns.items()}
    return {_only(fields): _list(columns, COLUMNS)}


def _only(fields: Sequence[str]) -> str:
    if len(fields) > 1:
        raise RequestRefused("the values have no names", hint=f"the model reads: {', '.join(fields)}")
    return fields[0]


def _list(values: Any, what: str) -> list[Any]:
    if not isinstance(values, list):
        raise RequestRefused(f"{what} is no list")
    return values


def _plain(field: str, values: Sequence[Any], kind: pa.DataType | None) -> Sequence[Any]:
    """Texts may come as `{"b64": …}`, too: a string tensor has bytes."""
    if kind is not None and pa.types.is_binary(kind):
        return values
    return [text_of(field, bytes_of(value, field)) if isinstance(value, dict) else value for value in values]


def _metadata(served: Served, encoder: str) -> dict[str, Any]:
    fields = field_types(served.lane(encoder).encoder)
    signature = {
        "inputs": {field: _tensor(field, *_described(kind)) for field, kind in fields.items()},
        "outputs": {OUTPUT: _tensor(OUTPUT, "DT_FLOAT", (-1, served.package.spec.dimension))},
        "method_name": "tensorflow/serving/predict",
    }
    return {
        "model_spec": {
            "name": served_model(served.pipeline, encoder),
            "signature_name": "",
            "version": version_of(served),
        },
        "metadata": {
            "signature_def": {
                "@type": "type.googleapis.com/tensorflow.serving.SignatureDefMap",
                "signature_def": {SIGNATURE: signature},
            }
        },
    }


def _described(kind: pa.DataType | None) -> tuple[str, tuple[int, ...]]:
    """Type and shape of a field: texts and files are strings, lists have an axis of their own."""
    if kind is not None and pa.types.is_floating(kind):
        return "DT_DOUBLE", (-1,)
    if kind is not None and pa.types.is_boolean(kind):
        return "DT_BOOL", (-1,)
    return "DT_STRING", (-1, -1) if kind is not None and pa.types.is_list(kind) else (-1,)


def _tensor(name: str, dtype: str, shape: Sequence[int]) -> dict[str, Any]:
    sizes = [{"size": str(size), "name": ""} for size in shape]
    return {
        "dtype": dtype,
        "tensor_shape": {"dim": sizes, "unknown_rank": False},
        "name": f"{SIGNATURE}_{name}:0",
    }
