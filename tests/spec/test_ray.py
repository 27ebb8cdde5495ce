"""The section `ray`: no cluster is reached without a token, unless nobody else can reach it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from embedmill.spec.ray import RaySpec, host_of, is_loopback


def section(**values: Any) -> RaySpec:
    return RaySpec.model_validate({"address": "127.0.0.1:6379", "families": {"cpu": {}}, **values})


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1:6379", "ray://gpu-head:10001", "head.internal:6379", "[2001:db8::1]:6379", "0.0.0.0:6379"],
)
def test_an_address_that_others_reach_needs_a_token(address: str) -> None:
    with pytest.raises(ValidationError, match="CVE-2023-48022"):
        section(address=address)
    assert section(address=address, token_file="token").address == address  # noqa: S106 - a file's name


@pytest.mark.parametrize(
    "address", ["127.0.0.1:6379", "localhost:6379", "ray://127.0.0.9:10001", "[::1]:6379"]
)
def test_loopback_needs_none(address: str) -> None:
    assert section(address=address).token_file is None


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("::1", True), ("localhost.evil.com", False), ("127.evil.com", False)],
)
def test_only_an_address_of_this_machine_is_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) == loopback


def test_a_host_is_found_in_every_form_of_an_address() -> None:
    assert [host_of(each) for each in ("h:1", "ray://h:1", "[::1]:1", "ray://[::1]:1")] == [
        "h",
        "h",
        "::1",
        "::1",
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"address": "auto"},
        {"address": "head"},
        {"address": "http://127.0.0.1:8265"},
        {"address": "ray://127.0.0.1:10001/x"},
        {"families": {}},
        {"families": {"Gpu": {}}},
        {"families": {"cpu": {"workers": 0}}},
        {"families": {"cpu": {"workers": "all"}}},
        {"families": {"cpu": {"gpus": 2}}},
        {"families": {"cpu": {"resources": {"GPU": 1}}}},
        {"families": {"cpu": {"resources": {"memory": 1}}}},
        {"families": {"cpu": {"resources": {"slot": 0}}}},
        {"families": {"cpu": {"labels": {"pool": "a b"}}}},
        {"shared": ["mill"]},
        {"token": "secret"},
    ],
)
def test_what_is_wrong_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        section(**wrong)
