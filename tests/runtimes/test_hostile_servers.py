"""Servers that lie, break, drip and storm: each ends in an error of one line, in time and within memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.contracts.runtime_suite import FEEDS
from tests.support.web import (
    Behaviour,
    Request,
    WebServer,
    answer,
    failing,
    hang,
    raw,
    redirect,
    status,
    web_server,
)

from embedmill.errors import ModelError, ServerUnavailable
from embedmill.runtimes import Runtime, load_runtime
from embedmill.spec import TfServingSpec, TritonSpec

TRITON = TritonSpec(kind="triton", model="m", version=3, retry_for_s=120, timeout_s=60, in_flight=2)
TF_SERVING = TfServingSpec(kind="tf_serving", model="m", version=3, retry_for_s=120, timeout_s=60)
HASTY = {"retry_for_s": 0.5, "timeout_s": 5}
"""What is over soon where nobody answers, and yet lets a busy machine load the model."""
KSERVE, REST = "/v2/models/m/versions/3", "/v1/models/m/versions/3"
INFER, PREDICT = f"{KSERVE}/infer", f"{REST}:predict"
VECTORS = np.arange(12, dtype=np.float32).reshape(2, 6)


def document(content: Any) -> Behaviour:
    return answer(json.dumps(content).encode(), kind="application/json")


def tensor(
    data: bytes = VECTORS.tobytes(),
    shape: Any = (2, 6),
    datatype: str = "FP32",
    name: str = "vectors",
    version: str = "3",
    size: int | None = None,
    length: int | None = None,
) -> Behaviour:
    """An answer of the KServe protocol, right but for what is named."""
    said = {"name": name, "datatype": datatype, "shape": shape}
    said["parameters"] = {"binary_data_size": len(data) if size is None else size}
    header = json.dumps({"model_name": "m", "model_version": version, "outputs": [said]}).encode()
    at = str(len(header) if length is None else length)
    return answer(header + data, kind="application/octet-stream", Inference_Header_Content_Length=at)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    """A server that is right in every answer, until a test changes one."""
    with web_server() as server:
        inputs = [{"name": name, "datatype": "INT64", "shape": [-1, -1]} for name in FEEDS]
        outputs = [{"name": "vectors", "datatype": "FP32", "shape": [-1, 6]}]
        about = {"name": "m", "versions": ["3"], "platform": "x", "inputs": inputs, "outputs": outputs}
        free = {"dtype": "DT_INT64", "tensor_shape": {"dim": [{"size": "-1"}, {"size": "-1"}]}}
        table = {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}, {"size": "6"}]}}
        signature = {"inputs": dict.fromkeys(FEEDS, free), "outputs": {"vectors": table}}
        signatures = {"signature_def": {"signature_def": {"serving_default": signature}}}
        state = {"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        server.paths = {
            "/v2": document({"name": "triton", "version": "1", "extensions": ["model_configuration"]}),
            KSERVE: document(about),
            f"{KSERVE}/config": document({"max_batch_size": 8}),
            INFER: reading(tensor()),
            REST: document({"model_version_status": [state]}),
            f"{REST}/metadata": document(
                {"model_spec": {"name": "m", "version": "3"}, "metadata": signatures}
            ),
            PREDICT: reading(document({"outputs": VECTORS.tolist()})),
        }
        for spec in (TRITON, TF_SERVING):
            monkeypatch.setenv(spec.VARIABLE, server.url(""))
        yield server


def reading(behaviour: Behaviour) -> Behaviour:
    """Behave, without a connection that is used again: the request's body is left unread."""

    async def behave(writer: asyncio.StreamWriter, request: Request) -> None:
        await behaviour(writer, request)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()

    return behave


def test_a_server_that_is_right_gives_the_vectors(web: WebServer, tmp_path: Path) -> None:
    for spec in (TRITON, TF_SERVING):
        np.testing.assert_array_equal(load_runtime(spec, tmp_path).run(FEEDS), VECTORS)


DEEP = b'{"outputs": ' + b"[" * 100_000
WRONG_ANSWERS: dict[str, tuple[str, Behaviour, str]] = {
    "too few rows": (INFER, tensor(VECTORS[:1].tobytes(), (1, 6)), "for 2 rows"),
    "too many columns": (INFER, tensor(bytes(56), (2, 7)), r"answered \[2, 7\]"),
    "one dimension": (INFER, tensor(shape=(12,)), r"has the shape \[12\]"),
    "a negative shape": (INFER, tensor(shape=(2, -1)), "answered no tensor"),
    "a shape of words": (INFER, tensor(shape=["two", "six"]), "answered no tensor"),
    "a shape that is none": (INFER, tensor(shape=None), "answered no tensor"),
    "fewer bytes than the shape": (INFER, tensor(VECTORS.tobytes()[:-4]), "answered no tensor"),
    "a lie of the size": (INFER, tensor(size=7), "answered no tensor"),
    "another dtype": (INFER, tensor(datatype="INT32"), "answered INT32"),
    "strings": (INFER, tensor(datatype="BYTES"), "answered BYTES"),
    "a type that there is not": (INFER, tensor(datatype="FP4"), "answered FP4"),
    "another output": (INFER, tensor(name="scores"), "answered no tensor"),
    "another version": (INFER, tensor(version="4"), "version 4 answered where 3 was asked"),
    "a negative header length": (INFER, tensor(length=-5), "answered"),
    "a header length beyond the body": (INFER, tensor(length=10**6), "answered"),
    "a web page": (INFER, answer(b"<html>welcome</html>", kind="text/html"), "answered what is no JSON"),
    "a list instead of an object": (INFER, document([1]), "answered no tensor"),
    "nothing": (INFER, answer(), "answered what is no JSON"),
    "a redirect": (INFER, redirect("http://169.254.169.254/"), "redirects .302."),
    "a compressed answer": (INFER, answer(b"\x1f\x8b", Content_Encoding="gzip"), "in gzip"),
    "an error of many lines": (INFER, answer(b'{"error": "a\\nb\\u001b[31mc"}', code=400), r"400 a b \[31mc"),
    "an error without end": (INFER, answer(b"x" * 60_000, code=500), "500 x{300}…"),
    "ragged rows": (PREDICT, document({"outputs": [[1, 2, 3, 4, 5, 6], [1]]}), "no table of numbers"),
    "words for numbers": (PREDICT, document({"outputs": [["1", "2"]] * 2}), "no table of numbers"),
    "truths for numbers": (PREDICT, document({"outputs": [[True] * 6] * 2}), "no table of numbers"),
    "nulls for numbers": (PREDICT, document({"outputs": [[None] * 6] * 2}), "no table of numbers"),
    "integers without end": (PREDICT, document({"outputs": [[10**400] * 6] * 2}), "no table of numbers"),
    "too few rows of json": (PREDICT, document({"outputs": [[0.5] * 6]}), "for 2 rows"),
    "no outputs": (PREDICT, document({"predictions": []}), "no table of numbers"),
    "nested too deep": (PREDICT, answer(DEEP[:60_000]), "answered what is no JSON"),
    "another output of several": (PREDICT, document({"outputs": {"scores": [1]}}), "no table of numbers"),
    "refused metadata": (f"{REST}/metadata", status(400), "answered 400"),
    "metadata of nothing": (f"{REST}/metadata", document({}), "metadata cannot be read"),
    "a status of nothing": (REST, document({"model_version_status": []}), "status cannot be read"),
    "a model of nothing": (KSERVE, document({}), "describes itself as no Triton does"),
    "a server of nothing": ("/v2", document(None), "describes itself as no Triton does"),
    "tensors of nothing": (KSERVE, document({"versions": ["3"], "inputs": [1], "outputs": []}), "no Triton"),
    "other versions alone": (
        KSERVE,
        document({"versions": ["4", "5"], "inputs": [], "outputs": []}),
        "answers with version '4, 5'",
    ),
}


@pytest.mark.parametrize("case", WRONG_ANSWERS)
def test_a_wrong_answer_is_a_model_error_of_one_line(web: WebServer, tmp_path: Path, case: str) -> None:
    path, behaviour, said = WRONG_ANSWERS[case]
    web.paths[path] = reading(behaviour)
    with pytest.raises(ModelError, match=said) as caught:
        spec_of(path, tmp_path)().run(FEEDS)
    assert not isinstance(caught.value, ServerUnavailable)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def spec_of(path: str, root: Path, **changed: float) -> Callable[[], Runtime]:
    spec: TritonSpec | TfServingSpec = TF_SERVING if path.startswith("/v1") else TRITON
    return lambda: load_runtime(spec.model_copy(update=changed), root)


HEAD = b"HTTP/1.1 200 So\r\nContent-Type: application/octet-stream\r\n"
FAILURES: dict[str, tuple[str, Behaviour]] = {
    "hangs": (INFER, hang),
    "drips a header": (INFER, raw(HEAD, b"X-Y: z\r\n", every_s=0.1, for_ever=True)),
    "drips a body": (INFER, raw(HEAD + b"Content-Length: 1000\r\n\r\n", b"x", every_s=0.1, for_ever=True)),
    "breaks off in the body": (INFER, raw(HEAD + b"Content-Length: 1000\r\n\r\n{")),
    "breaks off in the header": (INFER, raw(HEAD)),
    "says nothing": (INFER, raw(b"")),
    "storms with 503": (INFER, status(503)),
    "storms with 502 and a page": (INFER, answer(b"<h1>Bad gateway</h1>", code=502, kind="text/html")),
    "is too busy": (INFER, status(429, Retry_After="0")),
    "asks for an hour": (INFER, status(503, Retry_After="3600")),
    "forgets the model": (INFER, status(404)),
    "hangs at predict": (PREDICT, hang),
    "storms at predict": (PREDICT, status(504)),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_server_that_gives_no_answer_is_unavailable_in_time_which_means_try_again(
    web: WebServer, tmp_path: Path, case: str
) -> None:
    path, behaviour = FAILURES[case]
    runtime = spec_of(path, tmp_path, **HASTY)()
    web.paths[path] = reading(behaviour)
    with pytest.raises(ServerUnavailable, match="gave no answer for") as caught:
        runtime.run(FEEDS)
    assert caught.value.exit_code == 75
    assert "\n" not in str(caught.value)


def endless(content: bytes) -> Behaviour:
    return raw(b"HTTP/1.1 200 So\r\nContent-Type: application/json\r\n\r\n", content, for_ever=True)


@pytest.mark.parametrize("path", [INFER, PREDICT, "/v2", KSERVE, REST])
def test_an_answer_without_end_is_read_no_further_than_the_vectors_would_be(
    web: WebServer, tmp_path: Path, path: str
) -> None:
    web.paths[path] = endless(b" " * 65536)
    with pytest.raises(ModelError, match="answered more than the"):
        spec_of(path, tmp_path)().run(FEEDS)


def test_a_declared_length_beyond_all_measure_is_refused_as_well(web: WebServer, tmp_path: Path) -> None:
    web.paths[INFER] = raw(HEAD + b"Content-Length: 1000000000000\r\n\r\n", b"x" * 65536, for_ever=True)
    with pytest.raises(ModelError, match="answered more than the"):
        load_runtime(TRITON, tmp_path).run(FEEDS)


def test_a_storm_that_passes_costs_time_alone(web: WebServer, tmp_path: Path) -> None:
    runtime = load_runtime(TRITON, tmp_path)
    web.paths[INFER] = reading(failing(4, tensor(), Retry_After="0"))
    np.testing.assert_array_equal(runtime.run(FEEDS), VECTORS)
    assert web.asked["POST", INFER] == 5


def test_no_more_requests_are_in_flight_than_declared(web: WebServer, tmp_path: Path) -> None:
    now = most = 0
    all_there = asyncio.Event()

    async def counting(writer: asyncio.StreamWriter, request: Request) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now == 3:
            all_there.set()
        await all_there.wait()
        await asyncio.sleep(0.05)  # for one more, which there must not be
        now -= 1
        await tensor(VECTORS[:1].tobytes(), (1, 6))(writer, request)

    web.paths[INFER] = reading(counting)
    spec = TRITON.model_copy(update={"max_batch": 1, "in_flight": 3})
    many = {name: np.repeat(array, 6, axis=0) for name, array in FEEDS.items()}
    assert load_runtime(spec, tmp_path).run(many).shape == (12, 6)
    assert most == 3


def test_a_redirect_at_load_is_refused(web: WebServer, tmp_path: Path) -> None:
    web.paths["/v2"] = redirect("http://127.0.0.1:1/")
    with pytest.raises(ModelError, match=r"redirects \(302\), which is not followed"):
        load_runtime(TRITON, tmp_path)


def test_a_server_that_speaks_something_else_is_a_model_error(web: WebServer, tmp_path: Path) -> None:
    web.paths["/v2"] = raw(b"SSH-2.0-OpenSSH_9.2\r\n")
    with pytest.raises(ModelError, match="does not speak HTTP"):
        load_runtime(TRITON, tmp_path)


def test_an_address_where_nobody_listens_may_be_wrong_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TRITON.VARIABLE, "http://127.0.0.1:9")
    with pytest.raises(ServerUnavailable, match=r"no connection: .*is the address right\?") as caught:
        load_runtime(TRITON.model_copy(update=HASTY), tmp_path)
    assert caught.value.exit_code == 75
