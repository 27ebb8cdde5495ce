from __future__ import annotations

import pytest
from benchmarks.text.flops import MINILM, Transformer
from benchmarks.text.sample import TextsMissing, described, sampled

DUMP = """\
Package: tool
Section: utils
Description: does one thing
 and a long story
Tag: role::program,
 works-with::text

Package: nameless
Section: libs
"""


def test_a_layer_of_one_token_is_its_six_matrices_and_itself() -> None:
    one = Transformer(layers=1, hidden=2, inner=8)
    assert one.operations([1]) == 2 * (4 * 2 * 2 + 2 * 2 * 8) + 4 * 2


def test_attention_grows_with_the_square_of_a_text_and_all_else_with_its_length() -> None:
    one, two = MINILM.operations([100]), MINILM.operations([200])
    assert two - 2 * one == 6 * 4 * 384 * (200**2 - 2 * 100**2)


def test_minilm_needs_some_21_million_operations_a_token() -> None:
    assert MINILM.operations([36]) / 36 == pytest.approx(21.6e6, rel=0.01)


def test_a_text_is_name_description_section_and_tags_of_a_package_that_is_described() -> None:
    assert list(described(DUMP)) == ["tool. does one thing. utils. role::program, works-with::text"]


def test_a_sample_is_the_same_for_any_order_of_the_texts() -> None:
    texts = [f"text {number}" for number in range(50)]
    assert sampled(iter(texts), 10) == sampled(reversed(texts), 10)


def test_a_sample_larger_than_what_there_is_says_what_to_do() -> None:
    with pytest.raises(TextsMissing, match="apt-get update"):
        sampled(iter(["one", "one"]), 2)
