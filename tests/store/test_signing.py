"""Signatures against the examples that AWS publishes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from embedmill.store.signing import NO_BODY, Keys, Request, signed

S3_KEYS = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
S3_HOST, S3_TIME = "examplebucket.s3.amazonaws.com", datetime(2013, 5, 24, tzinfo=UTC)
SUITE_KEYS = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
SUITE_HOST, SUITE_TIME = "example.amazonaws.com", datetime(2015, 8, 30, 12, 36, tzinfo=UTC)


@pytest.mark.parametrize(
    ("path", "query", "headers", "signature"),
    [
        (
            "/test.txt",
            (),
            {"range": "bytes=0-9"},
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "/",
            (("lifecycle", ""),),
            {},
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            "/",
            (("prefix", "J"), ("max-keys", "2")),
            {},
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
    ids=["an object's range", "a bucket's lifecycle", "a list"],
)
def test_the_examples_of_s3s_documentation(
    path: str, query: tuple[tuple[str, str], ...], headers: dict[str, str], signature: str
) -> None:
    request = Request("GET", S3_HOST, path, query)
    sent = signed(
        request, S3_KEYS, S3_TIME, region="us-east-1", headers={**headers, "x-amz-content-sha256": NO_BODY}
    )
    assert sent["authorization"].endswith(f"Signature={signature}")
    assert "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, " in sent["authorization"]


@pytest.mark.parametrize(
    ("query", "signature"),
    [
        ((), "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        (
            (("Param2", "value2"), ("Param1", "value1")),
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
    ],
    ids=["get-vanilla", "get-vanilla-query-order-key-case"],
)
def test_the_cases_of_the_published_test_suite(query: tuple[tuple[str, str], ...], signature: str) -> None:
    request = Request("GET", SUITE_HOST, "/", query)
    assert signed(request, SUITE_KEYS, SUITE_TIME, region="us-east-1", service="service") == {
        "x-amz-date": "20150830T123600Z",
        "authorization": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders=host;x-amz-date, Signature={signature}",
    }


def test_a_session_token_is_sent_and_signed() -> None:
    keys = Keys("AKIDEXAMPLE", "secret", "the token")
    sent = signed(Request("GET", SUITE_HOST, "/"), keys, SUITE_TIME, region="us-east-1")
    assert sent["x-amz-security-token"] == "the token"
    assert "SignedHeaders=host;x-amz-date;x-amz-security-token," in sent["authorization"]
    assert "the token" not in repr(keys)
    assert "secret" not in repr(keys)
    assert "AKIDEXAMPLE" not in repr(keys)


def test_what_is_sent_is_encoded_as_s3_wants_it() -> None:
    request = Request("DELETE", S3_HOST, "/a b/ü+%.~", (("uploadId", "x/y=="), ("a", "")))
    assert request.target == "/a%20b/%C3%BC%2B%25.~?a=&uploadId=x%2Fy%3D%3D"
    assert Request("GET", S3_HOST, "/a").target == "/a"
