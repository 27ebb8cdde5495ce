from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from embedmill.release.reader import Release
from embedmill.serving.depends import Server


def test_a_text_finds_what_the_release_finds(client: TestClient, published: Release) -> None:
    answer = client.post("/search", json={"text": "item 7", "k": 3})
    expected = published.search("item 7", k=3)
    assert [hit["id"] for hit in answer.json()["hits"]] == [hit.id for hit in expected]
    assert answer.json()["hits"][0]["fields"] == expected[0].fields


def test_an_item_finds_itself_first(client: TestClient) -> None:
    hits = client.post("/search", json={"item": "s7", "k": 2}).json()["hits"]
    assert hits[0]["id"] == "s7"
    assert hits[0]["score"] == pytest.approx(1.0)


def test_every_answer_names_release_number_and_model(client: TestClient, published: Release) -> None:
    for answer in (client.get("/release"), client.get("/readyz"), client.post("/search", json={})):
        assert answer.headers["embedmill-release"] == published.name
        assert answer.headers["embedmill-release-number"] == "1"
        assert len(answer.headers["embedmill-model"]) == 64
        assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({}, 400, "found 0 queries"),
        ({"text": "a", "item": "s1"}, 400, "found 2 queries"),
        ({"text": "a", "k": 0}, 422, "k: "),
        ({"text": "a", "k": 10**6}, 400, "k is 1000000"),
        ({"item": "nobody"}, 404, "'nobody'"),
        ({"vector": [1.0, 2.0]}, 400, "(2,)"),
        ({"vector": [1e300] * 16}, 400, "not finite"),
        ({"text": "a", "colour": "red"}, 422, "colour"),
    ],
)
def test_a_wrong_question_gets_a_reason(
    client: TestClient, body: dict[str, object], status: int, says: str
) -> None:
    answer = client.post("/search", json=body)
    assert answer.status_code == status
    assert says in answer.json()["error"]["message"]


CURL = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        ('{"text": "hat"}', CURL, "the body was not read as JSON"),
        ('{"text": "hat"}', None, "the body was not read as JSON"),
        ("", "application/json", "no body"),
        ('{"text": hat}', "application/json", "the body is no JSON: Expecting value, at character 9"),
        ("[1]", "application/json", "the body is no JSON object"),
        (b'{"text": "\xff"}', "application/json", "the body is no JSON: it is not UTF-8"),
        ("[" * 20_000, "application/json", "the body is no JSON: it is nested too deep"),
    ],
)
def test_a_body_that_is_no_json_is_told_what_to_send(
    client: TestClient, body: str | bytes, kind: str | None, says: str
) -> None:
    answer = client.post("/search", content=body, headers={"content-type": kind} if kind else {})
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["message"] == says
    assert error["hint"] == "send a JSON object, with the header Content-Type: application/json"


@pytest.mark.parametrize("body", [b'{"input": "\xff"}', b"[" * 20_000])
def test_a_protocol_tells_what_to_send_too(client: TestClient, body: bytes) -> None:
    answer = client.post("/v1/embeddings", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert "the body is no JSON: it is n" in answer.json()["error"]["message"]
    assert "send a JSON object" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz"])
@pytest.mark.parametrize("leaving", [False, True])
def test_who_asks_for_headers_alone_gets_those_of_the_whole_answer(
    client: TestClient, server: Server, path: str, leaving: bool
) -> None:
    server.draining = leaving
    whole, head = client.get(path), client.head(path)
    assert head.status_code == whole.status_code
    assert head.headers["content-length"] == whole.headers["content-length"] == str(len(whole.content))
    assert head.headers["content-type"] == whole.headers["content-type"]
    assert head.content == b""


def test_an_unknown_address_answers_in_the_same_shape(client: TestClient) -> None:
    assert client.get("/nothing/here").json()["error"]["code"] == "HTTPError"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/models/test-item/config"),
        ("POST", "/v2/health/ready"),
        ("POST", "/v1/models/test-item:classify"),
        ("GET", "/v1/models/test-item/versions/1/labels"),
    ],
)
def test_what_a_protocol_does_not_have_is_refused_in_its_shape(
    client: TestClient, method: str, path: str
) -> None:
    answer = client.request(method, path)
    assert answer.status_code in {404, 405}
    assert answer.json()["error"] in {"Not Found", "Method Not Allowed"}


def test_a_server_that_leaves_is_not_ready_and_still_answers(client: TestClient, server: Server) -> None:
    assert client.get("/readyz").status_code == 200
    server.draining = True
    assert client.get("/readyz").status_code == 503
    assert client.post("/search", json={"text": "item 7"}).status_code == 200
