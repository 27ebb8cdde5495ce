from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from fastapi import APIRouter, FastAPI
from starlette.testclient import TestClient
from tests.serving.conftest import golden

from embedmill.errors import EmbedmillError, ModelError, Overloaded, ServerUnavailable
from embedmill.release.reader import Release
from embedmill.serving.routes import openai


def ask(client: TestClient, **query: Any) -> Any:
    answer = client.post("/v1/embeddings", json={"model": "test", "input": "item 7"} | query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(client: TestClient, **query: Any) -> tuple[int, Any]:
    body = json.dumps({"model": "test", "input": "item 7"} | query)
    answer = client.post("/v1/embeddings", content=body, headers={"content-type": "application/json"})
    return answer.status_code, answer.json()["error"]


def test_texts_get_the_vectors_of_the_release_in_order(client: TestClient, published: Release) -> None:
    texts = [f"item {n}" for n in range(5)]
    answer = ask(client, input=texts)
    assert [entry["index"] for entry in answer["data"]] == [0, 1, 2, 3, 4]
    vectors = np.array([entry["embedding"] for entry in answer["data"]], np.float32)
    expected = published.encoder("query_text").encode_texts(texts)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert answer["model"] == "test-query_text"


def test_base64_is_the_same_numbers_as_little_endian_float32(client: TestClient) -> None:
    numbers = ask(client)["data"][0]["embedding"]
    coded = ask(client, encoding_format="base64")["data"][0]["embedding"]
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(coded), "<f4"), np.float32(numbers))


def test_usage_counts_the_tokens_that_the_model_sees(client: TestClient) -> None:
    # a token a byte, one in front, and 64 at most
    assert ask(client, input=["abc", "é"])["usage"] == {"prompt_tokens": 4 + 3, "total_tokens": 7}
    assert ask(client, input="x" * 500)["usage"]["prompt_tokens"] == 64


@pytest.mark.parametrize("name", ["test", "tiny", "test-query_text"])
def test_queries_are_embedded_for_each_name(client: TestClient, name: str) -> None:
    assert ask(client, model=name) == ask(client)


def test_every_name_that_is_understood_is_listed(rich: TestClient) -> None:
    names = [model["id"] for model in rich.get("/v1/models").json()["data"]]
    assert names == ["every-input", "test", "test-item", "test-query_text"]


def test_the_field_encoder_chooses_where_the_model_is_no_encoder(client: TestClient) -> None:
    assert ask(client, encoder="query_text") == ask(client)
    assert refused(client, encoder="item")[1]["message"].startswith("encoder 'item' reads title, category")
    status, error = refused(client, model="test-item", encoder="query_text")
    assert (status, error["param"]) == (400, "encoder")
    assert refused(client, encoder="nobody")[0] == 404


@pytest.mark.parametrize(
    ("query", "status", "param", "says"),
    [
        ({"model": "gpt-4"}, 404, "model", "test-item"),
        ({"input": [1, 2, 3]}, 400, "input", "not tokens"),
        ({"input": [[1, 2], [3]]}, 400, "input", "not tokens"),
        ({"input": []}, 400, None, "found 0 inputs"),
        ({"input": ["a"] * 257}, 400, None, "1 to 256"),
        ({"input": ["a", ""]}, 400, None, "input 1 is empty"),
        ({"input": "\ud800"}, 400, None, "surrogates not allowed"),
        ({"dimensions": 8}, 400, "dimensions", "vectors of 16"),
        ({"encoding_format": "hex"}, 400, None, "encoding_format: "),
        ({"colour": "red"}, 400, None, "there is no 'colour'"),
    ],
)
def test_a_wrong_question_gets_openais_error(
    client: TestClient, query: dict[str, Any], status: int, param: str | None, says: str
) -> None:
    found, error = refused(client, **query)
    assert found == status
    assert says in error["message"]
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert error["code"] == ("model_not_found" if status == 404 else "RequestRefused")


def test_the_models_own_dimension_may_be_asked_for(client: TestClient) -> None:
    assert ask(client, dimensions=16, user="somebody") == ask(client)


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (Overloaded("too much", retry_after_s=7), 429, "rate_limit_error"),
        (ServerUnavailable("gone"), 503, "server_error"),
        (ModelError("broken"), 500, "server_error"),
    ],
)
def test_what_the_client_is_not_to_blame_for_says_so(error: EmbedmillError, status: int, kind: str) -> None:
    router = APIRouter(route_class=openai.router.route_class)

    @router.get("/")
    async def fail() -> None:
        raise error

    app = FastAPI()
    app.include_router(router)
    answer = TestClient(app).get("/")
    assert answer.status_code == status
    assert status != 429 or answer.headers["retry-after"] == "7"
    assert answer.json()["error"] == {
        "message": str(error),
        "type": kind,
        "param": None,
        "code": type(error).__name__,
    }


def test_a_model_is_described_for_clients_of_openai_and_of_tensorflow_serving(
    client: TestClient, published: Release
) -> None:
    document = client.get("/v1/models/test-item").json()
    assert (document["id"], document["object"]) == ("test-item", "model")
    assert document["created"] > 1_700_000_000
    (version,) = document["model_version_status"]
    assert (version["version"], version["state"]) == (str(published.number), "AVAILABLE")
    assert client.get("/v1/models/nobody").json()["error"]["code"] == "model_not_found"


def test_an_encoder_of_several_fields_says_which_it_reads(client: TestClient, published: Release) -> None:
    fields = golden(published)[0].column_names
    _, error = refused(client, model="test-item")
    assert all(field in error["message"] for field in fields)
