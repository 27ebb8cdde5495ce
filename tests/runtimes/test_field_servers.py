"""Embedding servers that are fed raw fields: what is sent, and what becomes of answers that are none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.support.web import Behaviour, Request, WebServer, answer, hang, redirect, status, web_server

from embedmill.errors import ModelError, ServerUnavailable
from embedmill.runtimes import TensorSpec
from embedmill.runtimes.remote.fields.asking import AskedServer, Protocol
from embedmill.runtimes.remote.fields.base import Asked

ASKED = Asked("shop-query_text", 3, TensorSpec("embedding", "float32", (None, 2)))
VECTORS = [[1.0, 2.0], [3.0, 4.0]]
TEXTS = {"query": np.array([b"red", "größe".encode()], dtype=object)}
V2, V1 = "/v2/models/shop-query_text/versions/3", "/v1/models/shop-query_text/versions/3"
PATHS = {"oip": f"{V2}/infer", "tf_serving": f"{V1}:predict", "openai": "/v1/embeddings"}
PROTOCOLS: tuple[Protocol, ...] = ("oip", "tf_serving", "openai")


def document(content: Any, **headers: Any) -> Behaviour:
    return answer(json.dumps(content).encode(), kind="application/json", **headers)


def oip(**changed: Any) -> dict[str, Any]:
    output = {"name": "embedding", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4], **changed}
    return {"model_name": ASKED.model, "model_version": "3", "outputs": [output]}


def openai(*places: int, model: str = ASKED.model) -> dict[str, Any]:
    data = [{"object": "embedding", "index": place, "embedding": VECTORS[place]} for place in places]
    return {"object": "list", "data": data, "model": model, "usage": {}}


RIGHT: dict[str, Any] = {
    "oip": oip(),
    "tf_serving": {"outputs": VECTORS},
    "openai": openai(0, 1),
}


@pytest.fixture
def web() -> Iterator[WebServer]:
    """A server that speaks all protocols, and answers rightly until a test changes that."""
    with web_server() as server:
        strings = [{"name": "query", "datatype": "BYTES", "shape": [-1]}]
        tensor = {"dtype": "DT_STRING", "tensor_shape": {"dim": [{"size": "-1"}]}}
        vectors = {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}, {"size": "2"}]}}
        signature = {"inputs": {"query": tensor}, "outputs": {"embedding": vectors}}
        server.paths = {
            "/v2": document({"name": "shop", "version": "1", "extensions": []}),
            V2: document(
                {
                    "name": ASKED.model,
                    "versions": ["3"],
                    "inputs": strings,
                    "outputs": [{"name": "embedding", "datatype": "FP32", "shape": [-1, 2]}],
                }
            ),
            f"{V1}/metadata": document(
                {
                    "model_spec": {"name": ASKED.model, "version": "3"},
                    "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
                }
            ),
            "/v1/models": document({"object": "list", "data": [{"id": ASKED.model}]}),
            **{PATHS[protocol]: reading(document(RIGHT[protocol])) for protocol in PROTOCOLS},
        }
        yield server


def reading(then: Behaviour) -> Behaviour:
    """Behaves so, on a connection that is not used again: the request's body is left unread."""

    async def behave(writer: asyncio.StreamWriter, request: Request) -> None:
        await then(writer, request)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()

    return behave


def asking(
    web: WebServer,
    protocol: Protocol,
    timeout_s: float = 60,
    retry_for_s: float = 120,
    limited_for_s: float = 0,
) -> AskedServer:
    return AskedServer(
        web.url(""), protocol, timeout_s=timeout_s, retry_for_s=retry_for_s, limited_for_s=limited_for_s
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_is_right_gives_the_vectors(web: WebServer, protocol: Protocol) -> None:
    with asking(web, protocol) as asked:
        asked.describe(ASKED)
        found = asked.embed(ASKED, [TEXTS, TEXTS, TEXTS], at_once=2)
    for vectors in found:
        np.testing.assert_array_equal(vectors, VECTORS)


@pytest.mark.parametrize("key", ["", "a-secret"])
def test_a_key_is_sent_with_every_request_and_none_where_there_is_none(web: WebServer, key: str) -> None:
    seen: list[str | None] = []

    async def behave(writer: asyncio.StreamWriter, request: Request) -> None:
        seen.append(request.headers.get("authorization"))
        await document(RIGHT["oip"])(writer, request)

    web.paths[PATHS["oip"]] = reading(behave)
    with AskedServer(web.url(""), "oip", key=key) as asked:
        asked.embed(ASKED, [TEXTS])
        asked.refusal(ASKED, TEXTS)
    assert seen == [f"Bearer {key}" if key else None] * 2


def test_texts_of_openai_are_put_in_the_order_of_their_places(web: WebServer) -> None:
    web.paths[PATHS["openai"]] = reading(document(openai(1, 0)))
    with asking(web, "openai") as asked:
        np.testing.assert_array_equal(asked.embed(ASKED, [TEXTS])[0], VECTORS)


LABELS = {"embedmill_release": "20260101", "embedmill_release_number": "3", "embedmill_model": "ab"}


@pytest.mark.parametrize(("protocol", "path"), [("oip", V2), ("openai", "/v1/models")])
def test_headers_say_which_release_it_is(web: WebServer, protocol: Protocol, path: str) -> None:
    body = {"data": [{"id": ASKED.model}], "inputs": [], "outputs": []}
    web.paths[path] = document(body, **LABELS)
    with asking(web, protocol) as asked:
        labels = asked.describe(ASKED).labels
    assert labels == {name.replace("_", "-"): value for name, value in LABELS.items()}


def test_answers_of_several_releases_behind_one_address_are_noticed(web: WebServer) -> None:
    web.paths["/v1/models"] = document({"data": [{"id": ASKED.model}]}, **LABELS)
    web.paths[PATHS["openai"]] = reading(document(openai(0, 1), **LABELS))
    with asking(web, "openai") as asked:
        asked.describe(ASKED)
        np.testing.assert_array_equal(asked.embed(ASKED, [TEXTS])[0], VECTORS)
        other = LABELS | {"embedmill_release_number": "4"}
        web.paths[PATHS["openai"]] = reading(document(openai(0, 1), **other))
        with pytest.raises(ModelError, match="with embedmill-release-number 4, and with 3 before"):
            asked.embed(ASKED, [TEXTS])
        web.paths[PATHS["openai"]] = reading(document(openai(0, 1), **dict.fromkeys(LABELS, "other")))
        with pytest.raises(ModelError, match="with embedmill-release other, and with"):
            asked.embed(ASKED, [TEXTS])


DEEP = answer(b'{"outputs": ' + b"[" * 10_000, kind="application/json")
WRONG: dict[str, tuple[Protocol, Behaviour, str]] = {
    "another version": ("oip", document(oip() | {"model_version": "4"}), "version 4 answered where 3"),
    "another output": ("oip", document(oip(name="x")), "answered no tensor 'embedding'"),
    "another type": ("oip", document(oip(datatype="FP64")), "answered FP64"),
    "another shape": ("oip", document(oip(shape=[3, 2])), "answered no tensor"),
    "words": ("oip", document(oip(data=["a"] * 4)), "answered no tensor"),
    "deep": ("oip", DEEP, "answered what is no JSON"),
    "no document": ("oip", answer(b"<html>", kind="text/html"), "answered what is no JSON"),
    "a redirect": ("oip", redirect("http://169.254.169.254/"), "redirects"),
    "an endless answer": ("oip", answer(b" " * 100_000, kind="application/json"), "answered more than"),
    "ragged rows": ("tf_serving", document({"outputs": [[1, 2], [3]]}), "no table of numbers"),
    "no outputs": ("tf_serving", document({"predictions": VECTORS}), "no table of numbers"),
    "another model": ("openai", document(openai(0, 1, model="x")), "'x' answered for 'shop-query_text'"),
    "a place twice": ("openai", document(openai(0, 0)), "no list of embeddings"),
    "no embeddings": ("openai", document({"data": [{}], "model": ASKED.model}), "no list of embeddings"),
    "an error": ("openai", answer(b'{"error": {"message": "no such model"}}', code=404), "404 no such model"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_answer_that_is_none_is_a_model_error_in_one_line(web: WebServer, case: str) -> None:
    protocol, behaviour, says = WRONG[case]
    web.paths[PATHS[protocol]] = reading(behaviour)
    with asking(web, protocol) as asked, pytest.raises(ModelError, match=says) as caught:
        asked.embed(ASKED, [TEXTS])
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 600


@pytest.mark.parametrize("behaviour", [status(503), status(429, Retry_After="99"), hang])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_gives_no_answer_is_unavailable(
    web: WebServer, protocol: Protocol, behaviour: Behaviour
) -> None:
    web.paths[PATHS[protocol]] = reading(behaviour)
    hasty = asking(web, protocol, timeout_s=1, retry_for_s=0.3)
    with hasty as asked, pytest.raises(ServerUnavailable):
        asked.embed(ASKED, [TEXTS])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_who_asks_too_often_asks_again_when_told_to(web: WebServer, protocol: Protocol) -> None:
    path = PATHS[protocol]
    error = json.dumps(ERRORS[protocol]).encode()
    later = [reading(answer(error, kind="application/json", code=404)), web.paths[path]]

    async def too_often(writer: asyncio.StreamWriter, request: Request) -> None:
        web.paths[path] = later.pop()
        await reading(status(429, Retry_After="1"))(writer, request)

    with asking(web, protocol, retry_for_s=0.5, limited_for_s=60) as asked:
        web.paths[path] = too_often
        (found,) = asked.embed(ASKED, [TEXTS])
        assert found.tolist() == VECTORS
        web.paths[path] = too_often
        refusal = asked.refusal(ASKED, TEXTS)
    assert refusal is not None
    assert refusal.status == 404, "what it says to one who asks too often is not what it says of a request"


def test_a_server_whose_limit_is_too_low_is_told_with_what_to_do(web: WebServer) -> None:
    web.paths[PATHS["oip"]] = reading(status(429, Retry_After="2"))
    with (
        asking(web, "oip", retry_for_s=1, limited_for_s=1.5) as asked,
        pytest.raises(
            ServerUnavailable, match="wants to be asked less often, and asked to wait 2 s"
        ) as caught,
    ):
        asked.embed(ASKED, [TEXTS])
    assert caught.value.hint == "let this caller ask more often; or run again when it is back"


ERRORS = {"oip": {"error": "no"}, "tf_serving": {"error": "no"}, "openai": {"error": {"message": "no"}}}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("code", "of", "well_formed"),
    [(404, None, True), (400, None, True), (500, None, False), (404, {"detail": "no"}, False)],
)
def test_a_refusal_is_well_formed_if_it_is_an_error_of_the_protocol(
    web: WebServer, protocol: Protocol, code: int, of: Any, well_formed: bool
) -> None:
    body = json.dumps(of or ERRORS[protocol]).encode()
    web.paths[PATHS[protocol]] = reading(answer(body, kind="application/json", code=code))
    with asking(web, protocol) as asked:
        refusal = asked.refusal(ASKED, TEXTS)
    assert refusal is not None
    assert (refusal.status, refusal.well_formed) == (code, well_formed)


def test_what_is_answered_is_no_refusal(web: WebServer) -> None:
    with asking(web, "oip") as asked:
        assert asked.refusal(ASKED, TEXTS) is None


def test_bytes_that_are_no_text_need_a_server_that_takes_binary_tensors(web: WebServer) -> None:
    with asking(web, "oip") as asked, pytest.raises(ModelError, match="takes no binary tensors"):
        asked.embed(ASKED, [{"image": np.array([b"\xff\xd8"], dtype=object)}])


@pytest.mark.parametrize("protocol", ["oip", "tf_serving"])
def test_metadata_that_is_none_is_a_model_error(web: WebServer, protocol: Protocol) -> None:
    web.paths[V2] = web.paths[f"{V1}/metadata"] = document({"inputs": 7, "model_spec": []})
    with asking(web, protocol) as asked, pytest.raises(ModelError, match="its metadata cannot be read"):
        asked.describe(ASKED)
