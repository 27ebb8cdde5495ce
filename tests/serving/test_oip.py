from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from tests.serving.conftest import golden

from embedmill.release.reader import Release
from embedmill.serving.depends import Server
from embedmill.types import Vectors

QUERY = "/v2/models/test-query_text"
ITEM = "/v2/models/test-item"


def packed(*values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def tensor(name: str, values: Any, datatype: str = "BYTES", **more: Any) -> dict[str, Any]:
    return {"name": name, "shape": [len(values)], "datatype": datatype, "data": values} | more


def texts(*values: str, **more: Any) -> dict[str, Any]:
    return {"inputs": [tensor("query", values)]} | more


def ask(client: TestClient, body: Any, address: str = QUERY) -> Any:
    answer = client.post(f"{address}/infer", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def send(
    client: TestClient,
    header: Mapping[str, Any],
    raw: bytes,
    *,
    length: str | None = None,
    address: str = QUERY,
) -> Any:
    said = json.dumps(header).encode()
    headers = {"Inference-Header-Content-Length": str(len(said)) if length is None else length}
    return client.post(f"{address}/infer", content=said + raw, headers=headers)


def binary(name: str, rows: int, size: int, datatype: str = "BYTES") -> dict[str, Any]:
    described = {"name": name, "shape": [rows], "datatype": datatype}
    return described | {"parameters": {"binary_data_size": size}}


def vectors_of(answer: Any) -> Vectors:
    """Those of a binary answer."""
    length = int(answer.headers["inference-header-content-length"])
    (output,) = json.loads(answer.content[:length])["outputs"]
    raw = answer.content[length:]
    assert len(raw) == output["parameters"]["binary_data_size"]
    found: Vectors = np.frombuffer(raw, "<f4").reshape(output["shape"])
    return found


def test_json_tensors_get_the_vectors_of_the_release(client: TestClient, published: Release) -> None:
    rows, vectors = golden(published)
    inputs = [tensor(name, rows.column(name).to_pylist()) for name in rows.column_names]
    answer = ask(client, {"id": "mine", "inputs": inputs}, f"{ITEM}/versions/1")
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("mine", "test-item", "1")
    (output,) = answer["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("embedding", "FP32", [8, 16])
    np.testing.assert_allclose(np.reshape(output["data"], output["shape"]), vectors, atol=1e-6)


def test_binary_tensors_travel_both_ways(client: TestClient, published: Release) -> None:
    rows, vectors = golden(published)
    raw = [packed(*(value.encode() for value in rows.column(name).to_pylist())) for name in rows.column_names]
    inputs = [binary(name, 8, len(part)) for name, part in zip(rows.column_names, raw, strict=True)]
    header = {"inputs": inputs, "parameters": {"binary_data_output": True}}
    answer = send(client, header, b"".join(raw), address=ITEM)
    assert answer.headers["content-type"] == "application/octet-stream"
    np.testing.assert_allclose(vectors_of(answer), vectors, atol=1e-6)


def test_every_kind_of_field_travels_in_bytes(rich: TestClient, every_input: Release) -> None:
    rows, vectors = golden(every_input, count=50)
    there = [
        row for row, values in enumerate(rows.to_pylist()) if None not in {values["price"], values["stock"]}
    ]
    inputs, raw = [], b""
    for name in rows.column_names:
        values = rows.column(name).take(there).to_pylist()
        part, datatype = _column(values)
        inputs.append(binary(name, len(there), len(part), datatype))
        raw += part
    header = {"inputs": inputs, "outputs": [{"name": "embedding", "parameters": {"binary_data": True}}]}
    assert len(there) > 20
    np.testing.assert_allclose(vectors_of(send(rich, header, raw, address=ITEM)), vectors[there], atol=1e-5)


def _column(values: list[Any]) -> tuple[bytes, str]:
    if isinstance(values[0], bool):
        return np.array(values).tobytes(), "BOOL"
    if isinstance(values[0], float):
        return np.array(values, "<f8").tobytes(), "FP64"
    return packed(*map(_bytes, values)), "BYTES"


def _bytes(value: Any) -> bytes:
    if isinstance(value, list):
        return json.dumps(value).encode()
    return value.encode() if isinstance(value, str) else value or b""


def test_an_axis_of_one_is_allowed(client: TestClient) -> None:
    plain = ask(client, texts("a", "b"))
    for data in (["a", "b"], [["a"], ["b"]]):
        assert ask(client, {"inputs": [tensor("query", data, shape=[2, 1])]}) == plain


def test_numbers_of_any_type_are_numbers(rich: TestClient) -> None:
    def of(datatype: str, dtype: str) -> Any:
        raw = np.array([3, 4], dtype).tobytes()
        return vectors_of(
            send(
                rich,
                {
                    "inputs": [binary("price", 2, len(raw), datatype)],
                    "parameters": {"binary_data_output": True},
                },
                raw,
                address=ITEM,
            )
        )

    for datatype, dtype in (("FP32", "<f4"), ("FP16", "<f2"), ("INT64", "<i8"), ("UINT8", "u1")):
        np.testing.assert_array_equal(of(datatype, dtype), of("FP64", "<f8"))


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({}, 400, "inputs: Field required"),
        ([], 400, "valid dictionary"),
        ({"inputs": []}, 400, "no inputs"),
        (texts(), 400, "found 0 inputs"),
        (texts(*["a"] * 257), 400, "1 to 256"),
        (texts("a", ""), 400, "input 1 is empty"),
        (texts("a", outputs=[{"name": "logits"}]), 400, "no output 'logits'"),
        ({"inputs": [tensor("colour", ["a"])]}, 400, "does not read 'colour'"),
        ({"inputs": [tensor("query", ["a"])] * 2}, 400, "there twice"),
        ({"inputs": [tensor("query", ["a"], shape=[2])]}, 400, "its shape says 2"),
        ({"inputs": [tensor("query", ["a"], shape=[1, 2])]}, 400, "[N, 1]"),
        ({"inputs": [tensor("query", ["a"], shape=[-1])]}, 400, "[N, 1]"),
        ({"inputs": [tensor("query", ["a"], shape=[])]}, 400, "[N, 1]"),
        ({"inputs": [tensor("query", ["a"], "STRING")]}, 400, "no type 'STRING'"),
        ({"inputs": [tensor("query", [1])]}, 400, "value 0 is no BYTES"),
        ({"inputs": [tensor("query", [True], "INT64")]}, 400, "value 0 is no INT64"),
        ({"inputs": [{"name": "query", "shape": [1], "datatype": "BYTES"}]}, 400, "neither or both"),
    ],
)
def test_a_wrong_question_gets_an_error_that_is_a_text(
    client: TestClient, body: Any, status: int, says: str
) -> None:
    answer = client.post(f"{QUERY}/infer", json=body)
    assert answer.status_code == status
    assert says in answer.json()["error"]


@pytest.mark.parametrize(
    ("size", "raw", "length", "says"),
    [
        (6, packed(b"ab"), "x", "the header has 'x' bytes"),
        (6, packed(b"ab"), "-1", "the header has '-1' bytes"),
        (6, packed(b"ab"), "99999", "the header has '99999' bytes"),
        (6, packed(b"ab"), "9" * 5000, "the header has '999999999999999999' bytes"),
        (6, packed(b"ab"), "3", "no JSON"),
        (7, packed(b"ab"), None, "6 bytes are left of 7"),
        (5, packed(b"ab"), None, "has 2 bytes, and 1 are left"),
        (6, packed(b"ab") + b"c", None, "1 bytes of the body belong to no input"),
        (3, b"abc", None, "end within a length"),
        (12, packed(b"a", b"") + b"\0\0\0", None, "end within a length"),
        (9, packed(b"a", b""), None, "has 2 values, and its shape says 1"),
        (5, packed(b"\xff"), None, "not UTF-8"),
        (6, struct.pack("<I", 2**32 - 1) + b"ab", None, "has 4294967295 bytes, and 2 are left"),
        (-1, b"", None, "greater than or equal to 0"),
    ],
)
def test_lengths_that_lie_are_found_out(
    client: TestClient, size: int, raw: bytes, length: str | None, says: str
) -> None:
    answer = send(client, {"inputs": [binary("query", 1, size)]}, raw, length=length)
    assert answer.status_code == 400
    assert says in answer.json()["error"]


def test_an_unknown_model_or_version_is_not_found(client: TestClient) -> None:
    for address in ("/v2/models/nobody", f"{QUERY}/versions/2", f"{QUERY}/versions/x"):
        for answer in (
            client.get(address),
            client.get(f"{address}/ready"),
            client.post(f"{address}/infer", json=texts("a")),
        ):
            assert answer.status_code == 404
            assert isinstance(answer.json()["error"], str)


def test_a_compressed_body_is_refused(client: TestClient) -> None:
    answer = client.post(f"{QUERY}/infer", content=b"", headers={"content-encoding": "gzip"})
    assert answer.status_code == 415


def test_a_model_says_what_it_reads_and_makes(rich: TestClient) -> None:
    document = rich.get(f"{ITEM}/versions/1").json()
    assert document == rich.get(ITEM).json()
    assert (document["name"], document["versions"], document["platform"]) == (
        "test-item",
        ["1"],
        "embedmill_onnxruntime",
    )
    types = {each["name"]: each["datatype"] for each in document["inputs"]}
    assert types["price"] == "FP64"
    assert types["stock"] == "BOOL"
    assert {types[name] for name in ("front", "back", "category", "tags", "materials", "title")} == {"BYTES"}
    assert document["outputs"] == [{"name": "embedding", "datatype": "FP32", "shape": [-1, 6]}]


def test_the_server_is_live_and_ready_until_it_leaves(client: TestClient, server: Server) -> None:
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    addresses = ("/v2/health/ready", f"{QUERY}/ready", f"{QUERY}/versions/1/ready")
    assert [client.get(address).status_code for address in addresses] == [200] * 3
    server.draining = True
    assert [client.get(address).status_code for address in addresses] == [503] * 3
    assert client.get("/v2/health/live").status_code == 200
