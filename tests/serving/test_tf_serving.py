from __future__ import annotations

import base64
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from tests.serving.conftest import golden, load

from embedmill.release.reader import Release
from embedmill.serving.app import make_app
from embedmill.serving.depends import Server
from embedmill.serving.live import Live


def ask(client: TestClient, body: Any, address: str = "/v1/models/test-item") -> Any:
    answer = client.post(f"{address}:predict", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def coded(value: Any) -> Any:
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def test_rows_get_the_vectors_of_the_release(client: TestClient, published: Release) -> None:
    rows, vectors = golden(published)
    answer = ask(client, {"instances": rows.to_pylist(), "signature_name": "serving_default"})
    np.testing.assert_allclose(answer["predictions"], vectors, atol=1e-6)


def test_columns_get_the_vectors_of_the_release(client: TestClient, published: Release) -> None:
    rows, vectors = golden(published)
    answer = ask(client, {"inputs": rows.to_pydict()}, f"/v1/models/test-item/versions/{published.number}")
    np.testing.assert_allclose(answer["outputs"], vectors, atol=1e-6)


def test_every_kind_of_field_travels(rich: TestClient, every_input: Release) -> None:
    rows, vectors = golden(every_input, count=50)
    instances = [{name: coded(value) for name, value in row.items()} for row in rows.to_pylist()]
    np.testing.assert_allclose(ask(rich, {"instances": instances})["predictions"], vectors, atol=1e-5)
    columns = {name: [coded(value) for value in values] for name, values in rows.to_pydict().items()}
    np.testing.assert_allclose(ask(rich, {"inputs": columns})["outputs"], vectors, atol=1e-5)


def test_the_only_field_needs_no_name(client: TestClient, published: Release) -> None:
    expected = published.encoder("query_text").encode_texts(["item 7"]).tolist()
    address = "/v1/models/test-query_text"
    for instance in ("item 7", coded(b"item 7"), {"query": "item 7"}, {"query": coded(b"item 7")}):
        found = ask(client, {"instances": [instance]}, address)["predictions"]
        np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(ask(client, {"inputs": ["item 7"]}, address)["outputs"], expected, atol=1e-6)


def test_the_body_is_json_whatever_the_header_says(client: TestClient) -> None:
    answer = client.post(
        "/v1/models/test-query_text:predict",
        content=b'{"instances": ["item 7"]}',
        headers={"content-type": "application/x-www-form-urlencoded"},  # as curl -d does
    )
    assert len(answer.json()["predictions"][0]) == 16


@pytest.mark.parametrize(
    ("address", "body", "status", "says"),
    [
        ("/v1/models/nobody:predict", {"instances": ["a"]}, 404, "no model 'nobody'"),
        ("/v1/models/test/versions/7:predict", {"instances": ["a"]}, 404, "is version 1"),
        ("/v1/models/test:predict", {}, 400, "not one of"),
        ("/v1/models/test:predict", {"instances": ["a"], "inputs": ["a"]}, 400, "not one of"),
        ("/v1/models/test:predict", [1], 400, "not one of"),
        ("/v1/models/test:predict", {"instances": "a"}, 400, "instances is no list"),
        ("/v1/models/test:predict", {"instances": []}, 400, "found 0 inputs"),
        ("/v1/models/test:predict", {"instances": ["a"] * 300}, 400, "1 to 256"),
        ("/v1/models/test:predict", {"instances": ["a"], "signature_name": "x"}, 400, "no signature 'x'"),
        ("/v1/models/test:predict", {"instances": ["a", {"query": "a"}]}, 400, "some are objects"),
        ("/v1/models/test:predict", {"instances": [{"colour": "a"}]}, 400, "does not read 'colour'"),
        ("/v1/models/test:predict", {"instances": [["a"]]}, 400, "input 0 is not a text"),
        ("/v1/models/test:predict", {"instances": [{"b64": "?"}]}, 400, "not base64"),
        ("/v1/models/test:predict", {"instances": [{"b64": "/w=="}]}, 400, "not UTF-8"),
        ("/v1/models/test:predict", {"instances": [None]}, 400, "input 0 is empty"),
        ("/v1/models/test-item:predict", {"instances": ["a"]}, 400, "no names"),
        ("/v1/models/test-item:predict", {"inputs": ["a"]}, 400, "no names"),
        ("/v1/models/test-item:predict", {"inputs": {"title": "a"}}, 400, "title is no list"),
        ("/v1/models/test-item:predict", {"inputs": {"title": ["a"], "category": []}}, 400, "different"),
    ],
)
def test_a_wrong_question_gets_an_error_that_is_a_text(
    client: TestClient, address: str, body: Any, status: int, says: str
) -> None:
    answer = client.post(address, json=body)
    assert answer.status_code == status
    assert says in answer.json()["error"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 10_000, b'{"instances": ' + b"9" * 5000 + b"}"])
def test_what_is_no_json_is_refused(client: TestClient, body: bytes) -> None:
    assert client.post("/v1/models/test:predict", content=body).status_code == 400


def test_a_version_has_a_status_and_another_has_none(client: TestClient) -> None:
    (status,) = client.get("/v1/models/test-item/versions/1").json()["model_version_status"]
    assert status["state"] == "AVAILABLE"
    answer = client.get("/v1/models/test-item/versions/2")
    assert (answer.status_code, type(answer.json()["error"])) == (404, str)


def test_a_release_that_no_log_numbers_is_version_0(published: Release, tmp_path: Path) -> None:
    copied = Release.open(shutil.copytree(published.folder, tmp_path / "copied"))
    live = Live(load(copied))
    with TestClient(make_app(Server(live))) as client:
        (status,) = client.get("/v1/models/test-item/versions/0").json()["model_version_status"]
        assert status["version"] == "0"
        assert client.get("/release").json()["number"] is None
    live.close()


def test_metadata_names_fields_types_and_the_output(rich: TestClient) -> None:
    document = rich.get("/v1/models/test-item/metadata").json()
    assert document["model_spec"] == {"name": "test-item", "signature_name": "", "version": "1"}
    signature = document["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert {name: tensor["dtype"] for name, tensor in signature["inputs"].items()} == {
        "front": "DT_STRING",
        "back": "DT_STRING",
        "category": "DT_STRING",
        "tags": "DT_STRING",
        "materials": "DT_STRING",
        "price": "DT_DOUBLE",
        "stock": "DT_BOOL",
        "title": "DT_STRING",
    }
    assert [size["size"] for size in signature["outputs"]["embedding"]["tensor_shape"]["dim"]] == ["-1", "6"]
    assert rich.get("/v1/models/test-item/versions/1/metadata").json() == document
    assert rich.get("/v1/models/test-item/versions/2/metadata").status_code == 404
