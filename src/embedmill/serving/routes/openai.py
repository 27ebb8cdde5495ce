"""`/v1/embeddings`, `/v1/models`: what clients of OpenAI's API ask.

https://platform.openai.com/docs/api-reference/embeddings. `/v1/models/{name}` is TensorFlow Serving's address
as well: its answer has the fields of both documents.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, WithJsonSchema
from pydantic_core import to_json
from starlette.responses import Response

from embedmill.errors import EmbedmillError, RequestRefused
from embedmill.serving.depends import Answering, TheServer
from embedmill.serving.requests.embedding import embed_rows, refuse_count, tokens_of
from embedmill.serving.requests.models import NOT_FOUND, created_s, encoder_named, model_names
from embedmill.serving.requests.rows import text_rows
from embedmill.serving.requests.shapes import errors_like, route_with, said
from embedmill.serving.requests.strict import StrictBody
from embedmill.serving.routes.tf_serving import version_status
from embedmill.spec.serving import served_model

if TYPE_CHECKING:
    from embedmill.serving.served import Served
    from embedmill.types import Vectors

TOO_MANY, SERVER_ERROR = 429, 500
SHORT = 2000
"""Characters whose tokens are counted sooner than another thread would begin to."""

Input = Annotated[
    Any,
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
    Field(description="A text, or a list of texts."),
]


class EmbeddingsRequest(StrictBody):
    """Texts to embed."""

    input: Input
    model: str = Field(
        description="`<pipeline>-<encoder>`; or the name of the pipeline or of the model package, for the "
        "encoder of queries."
    )
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, description="The model's own number, and no other.")
    user: str | None = Field(default=None, description="Read by nobody.")
    encoder: str | None = Field(
        default=None, description="Chooses the encoder, where `model` names the pipeline or the package."
    )


class Embedding(BaseModel):
    """One vector: numbers, or base64 of little-endian float32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Tokens that the model saw, special ones included; 0 where it reads none."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(BaseModel):
    """Vectors, in the order of the texts."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


class Said(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAIError(BaseModel):
    """An error as OpenAI's clients read it."""

    error: Said


def _shape(error: EmbedmillError, status: int) -> Mapping[str, Any]:
    kinds = {TOO_MANY: "rate_limit_error"}
    kind = kinds.get(status, "invalid_request_error" if status < SERVER_ERROR else "server_error")
    about = error.param if isinstance(error, RequestRefused) else None
    code = "model_not_found" if (about, status) == ("model", NOT_FOUND) else error.code
    return {"error": {"message": said(error), "type": kind, "param": about, "code": code}}


router = APIRouter(tags=["OpenAI"], route_class=route_with(_shape), responses=errors_like(OpenAIError))


@router.post("/v1/embeddings", response_model=EmbeddingsAnswer)
async def embeddings(query: EmbeddingsRequest, served: Answering, server: TheServer) -> Response:
    """The vectors of texts."""
    encoder = _encoder(query, served)
    texts = _texts(query.input)
    refuse_count(len(texts), server.limits)
    _check_dimensions(query.dimensions, served)
    chosen = served.lane(encoder).encoder
    rows = text_rows(chosen, texts)
    vectors_ND = await embed_rows(served, server.limits, encoder, rows)
    short = sum(map(len, texts)) <= SHORT
    tokens = tokens_of(chosen, rows) if short else await asyncio.to_thread(tokens_of, chosen, rows)
    answer = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(_written(vectors_ND, query.encoding_format))
        ],
        "model": served_model(served.pipeline, encoder),
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return Response(to_json(answer), media_type="application/json")


@router.get("/v1/models")
async def models(served: Answering) -> dict[str, Any]:
    """Every name that `model` may be."""
    return {"object": "list", "data": [_model(served, name) for name in model_names(served)]}


@router.get("/v1/models/{name}")
async def model(name: str, served: Answering) -> Response:
    """A model: what clients of OpenAI's API read, and the status that TensorFlow Serving answers here."""
    encoder_named(served, name)
    return JSONResponse(_model(served, name) | version_status(served))


def _model(served: Served, name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created_s(served), "owned_by": "embedmill"}


def _encoder(query: EmbeddingsRequest, served: Served) -> str:
    named = encoder_named(served, query.model)
    if query.encoder is None or query.encoder == named:
        return named
    served.lane(query.encoder)  # there is one
    if query.model == served_model(served.pipeline, named):
        raise RequestRefused(
            f"model {query.model!r} is the encoder {named!r}, and `encoder` is {query.encoder!r}",
            param="encoder",
        )
    return query.encoder


def _texts(given: Any) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if isinstance(texts, list) and all(isinstance(text, str) for text in texts):
        return texts
    raise RequestRefused(
        "input is neither a text nor a list of texts",
        hint="send texts, not tokens: the release has its own tokenizer "
        "(in LangChain: check_embedding_ctx_length=False)",
        param="input",
    )


def _check_dimensions(asked: int | None, served: Served) -> None:
    dimension = served.package.spec.dimension
    if asked is not None and asked != dimension:
        raise RequestRefused(
            f"dimensions is {asked}, and the model makes vectors of {dimension}",
            hint="it does not say that a part of a vector means anything: leave `dimensions` out",
            param="dimensions",
        )


def _written(vectors_ND: Vectors, encoding: Literal["float", "base64"]) -> list[Any]:
    if encoding == "float":
        floats: list[Any] = vectors_ND.tolist()
        return floats
    return [base64.b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors_ND]
