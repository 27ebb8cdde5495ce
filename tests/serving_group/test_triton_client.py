"""NVIDIA's client of the Open Inference Protocol, with its defaults: tensors travel as bytes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.http as triton
from tests.serving_group.goldens import golden
from tests.support.server_process import ServerProcess
from tritonclient.utils import InferenceServerException

from embedmill.release.reader import Release


@pytest.fixture
def client(server: ServerProcess) -> triton.InferenceServerClient:
    return triton.InferenceServerClient(server.url.removeprefix("http://"))


@pytest.fixture
def rich(rich_server: ServerProcess) -> triton.InferenceServerClient:
    return triton.InferenceServerClient(rich_server.url.removeprefix("http://"))


def tensor(name: str, values: npt.NDArray[Any], datatype: str = "BYTES", *, binary: bool = True) -> Any:
    found = triton.InferInput(name, list(values.shape), datatype)
    found.set_data_from_numpy(values, binary_data=binary)
    return found


def strings(values: list[Any]) -> npt.NDArray[np.object_]:
    found = np.empty(len(values), np.object_)
    found[:] = values
    return found


@pytest.mark.parametrize("binary", [True, False])
def test_items_get_the_vectors_of_the_release(
    client: triton.InferenceServerClient, published: Release, binary: bool
) -> None:
    rows, vectors = golden(published)
    rows, vectors = rows.slice(0, 256), vectors[:256]
    inputs = [
        tensor(name, strings(rows.column(name).to_pylist()), binary=binary) for name in rows.column_names
    ]
    outputs = [triton.InferRequestedOutput("embedding", binary_data=binary)]
    answer = client.infer("test-item", inputs, model_version="1", outputs=outputs, request_id="mine")
    np.testing.assert_allclose(answer.as_numpy("embedding"), vectors, atol=1e-6)
    assert answer.get_response()["id"] == "mine"


def test_without_a_wish_the_output_comes_as_bytes(
    client: triton.InferenceServerClient, published: Release
) -> None:
    answer = client.infer("test-query_text", [tensor("query", strings(["item 7", "é"]))])
    expected = published.encoder("query_text").encode_texts(["item 7", "é"])
    np.testing.assert_allclose(answer.as_numpy("embedding"), expected, atol=1e-6)
    assert answer.get_output("embedding")["parameters"] == {"binary_data_size": 2 * 16 * 4}


def test_images_numbers_booleans_and_lists_travel(
    rich: triton.InferenceServerClient, every_input: Release
) -> None:
    rows, vectors = golden(every_input)
    whole = [at for at, row in enumerate(rows.to_pylist()) if None not in {row["price"], row["stock"]}]
    columns = rows.take(whole).to_pydict()
    lists = [json.dumps(value).encode() for value in columns.pop("tags")]
    price, stock = np.array(columns.pop("price")), np.array(columns.pop("stock"))
    inputs = [tensor(name, strings([value or "" for value in values])) for name, values in columns.items()]
    inputs += [tensor("tags", strings(lists)), tensor("price", price, "FP64"), tensor("stock", stock, "BOOL")]
    found = rich.infer("test-item", inputs).as_numpy("embedding")
    np.testing.assert_allclose(found, vectors[whole], atol=1e-5)


def test_the_client_finds_server_and_model(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("test-item")
    assert client.is_model_ready("test-item", "1")
    assert not client.is_model_ready("test-item", "2")
    assert client.get_server_metadata()["name"] == "embedmill"
    assert client.get_model_metadata("test-item")["versions"] == ["1"]


def test_what_is_wrong_is_the_clients_exception(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="is version 1") as caught:
        client.infer("test-item", [tensor("title", strings(["a"]))], model_version="7")
    assert caught.value.status() == "404"
    with pytest.raises(InferenceServerException, match="does not read 'colour'"):
        client.infer("test-item", [tensor("colour", strings(["a"]))])
