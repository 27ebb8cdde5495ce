"""Requests as the REST documentation of TensorFlow Serving writes them, by the standard library alone."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from typing import Any

import numpy as np
import pytest
from tests.serving_group.goldens import golden
from tests.support.server_process import ServerProcess

from embedmill.release.reader import Release


def get(url: str) -> Any:
    with urllib.request.urlopen(url) as answer:  # noqa: S310 - of a server that we started
        return json.load(answer)


def predict(url: str, body: Any) -> Any:
    """As `curl -d … -X POST`, which says that it sends a form."""
    with urllib.request.urlopen(url, json.dumps(body).encode()) as answer:  # noqa: S310
        return json.load(answer)


def coded(value: Any) -> Any:
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def test_rows_and_columns_get_the_vectors_of_the_release(server: ServerProcess, published: Release) -> None:
    rows, vectors = golden(published)
    rows, vectors = rows.slice(0, 256), vectors[:256]
    model = f"{server.url}/v1/models/test-item"
    answer = predict(f"{model}:predict", {"signature_name": "serving_default", "instances": rows.to_pylist()})
    np.testing.assert_allclose(answer["predictions"], vectors, atol=1e-6)
    answer = predict(f"{model}/versions/1:predict", {"inputs": rows.to_pydict()})
    np.testing.assert_allclose(answer["outputs"], vectors, atol=1e-6)


def test_images_travel_in_base64_and_what_is_missing_as_null(
    rich_server: ServerProcess, every_input: Release
) -> None:
    rows, vectors = golden(every_input)
    instances = [{name: coded(value) for name, value in row.items()} for row in rows.to_pylist()]
    answer = predict(f"{rich_server.url}/v1/models/test-item:predict", {"instances": instances})
    np.testing.assert_allclose(answer["predictions"], vectors, atol=1e-5)


def test_status_and_metadata_are_those_of_the_documentation(server: ServerProcess) -> None:
    model = f"{server.url}/v1/models/test-item"
    (status,) = get(model)["model_version_status"]
    ok = {"error_code": "OK", "error_message": ""}
    assert status == {"version": "1", "state": "AVAILABLE", "status": ok}
    document = get(f"{model}/metadata")
    assert document["model_spec"]["version"] == "1"
    signature = document["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert sorted(signature["inputs"]) == ["category", "title"]


def test_an_error_is_a_text(server: ServerProcess) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        predict(f"{server.url}/v1/models/test-item/versions/7:predict", {"instances": []})
    assert caught.value.code == 404
    assert "version '7'" in json.load(caught.value)["error"]
