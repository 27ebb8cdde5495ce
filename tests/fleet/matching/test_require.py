"""NVIDIA_REQUIRE_…: spaces are OR, commas are AND, and what cannot be read is an error with its place."""

from __future__ import annotations

import pytest

from embedmill.errors import SpecError
from embedmill.fleet.matching.require import Required, alternatives, required

T4 = Required(cuda="12.2", driver="535.183.01", arch="7.5", brand="Tesla")


def holds(expression: str, host: Required = T4) -> bool:
    return required({"NVIDIA_REQUIRE_CUDA": expression}, host, "images.yaml: tf").passed


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "  ",
        ",",
        "cuda>=12.2",
        "cuda>=12",
        "cuda=12.2",
        "cuda=12.2.0",
        "cuda!=12.4",
        "cuda<12.10",
        "cuda<=12.2",
        "driver>535.54.03",
        "driver>=535,driver<536",
        "arch>=7.5",
        "brand=tesla",
        "BRAND=Tesla",
        "brand!=geforce",
        "cuda>=12.8 brand=tesla,driver>=535,driver<536",
        "cuda>=12.8  brand=geforce,driver>=535 , brand=tesla",
    ],
)
def test_what_holds(expression: str) -> None:
    assert holds(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "cuda>=12.3",
        "cuda>12.2",
        "cuda!=12.2",
        "driver<535",
        "driver>=535,driver<535.183",
        "arch>=8.0",
        "brand=geforce",
        "brand!=tesla",
        "cuda>=12.8 brand=tesla,driver>=470,driver<471 brand=geforce,driver>=535,driver<536",
    ],
)
def test_what_does_not_hold(expression: str) -> None:
    assert not holds(expression)


def test_all_variables_must_hold() -> None:
    both = {"NVIDIA_REQUIRE_CUDA": "cuda>=12.2", "NVIDIA_REQUIRE_ARCH": "arch>=8.0"}
    found = required(both, T4, "tf")
    assert not found.passed
    has = "the host has cuda 12.2, driver 535.183.01, arch 7.5, brand Tesla"
    assert found.said == f"NVIDIA_REQUIRE_ARCH is not met: arch>=8.0; {has}"


@pytest.mark.parametrize("value", ["1", "true", "True", "t"])
def test_it_can_be_turned_off_and_then_only_warns(value: str) -> None:
    found = required({"NVIDIA_REQUIRE_CUDA": "cuda>=12.8", "NVIDIA_DISABLE_REQUIRE": value}, T4, "tf")
    assert found.passed
    assert "allowed by NVIDIA_DISABLE_REQUIRE" in found.warning


@pytest.mark.parametrize("value", ["0", "false", "", "yes"])
def test_only_what_the_toolkit_takes_for_true_turns_it_off(value: str) -> None:
    assert not required(
        {"NVIDIA_REQUIRE_CUDA": "cuda>=12.8", "NVIDIA_DISABLE_REQUIRE": value}, T4, "tf"
    ).passed


@pytest.mark.parametrize("expression", ["cuda>=9.0", "driver>=1", "arch!=1.0", "brand!=geforce"])
def test_what_was_not_learned_fulfils_nothing(expression: str) -> None:
    assert not holds(expression, Required(None, None, None, None))


def test_brands_of_two_words_are_written_as_one() -> None:
    workstation = Required("12.2", "535.183.01", "8.6", "NVIDIA RTX")
    assert holds("brand=nvidiartx", workstation)
    assert not holds("brand=nvidia", workstation)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("cuda", "'cuda' is no condition"),
        ("cuda>=", "'cuda>=' is no condition"),
        (">=12.2", "'>=12.2' is no condition"),
        ("cuda=>12.2", "cuda may be compared by"),
        ("cuda>=twelve", "'twelve' is not a version"),
        ("cuda>=12.", "'12.' is not a version"),
        ("brand>=tesla", "brand may be compared by =, !="),
        ("gpu=t4", "'gpu' is none of cuda, driver, arch, brand"),
        ("cuda>=12.2>1", "is no condition"),
        ("cuda >= 12.2", "'cuda' is no condition"),
        ("cuda>=11.0 gpu=t4", "'gpu' is none of"),
    ],
)
def test_what_is_no_expression_says_where_and_what(expression: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        holds(expression)
    assert str(caught.value).startswith("images.yaml: tf: require: NVIDIA_REQUIRE_CUDA: ")
    assert said in str(caught.value)


def test_another_variable_is_an_error() -> None:
    with pytest.raises(SpecError, match="NVIDIA_DISABLE_REQUIRES is none of"):
        required({"NVIDIA_DISABLE_REQUIRES": "1"}, T4, "tf")


def test_alternatives_keep_their_order() -> None:
    one, other = alternatives("cuda>=12.8 brand=tesla,driver>=535", "tf")
    assert [(each.key, each.comparison, each.value) for each in other] == [
        ("brand", "=", "tesla"),
        ("driver", ">=", "535"),
    ]
    assert len(one) == 1
