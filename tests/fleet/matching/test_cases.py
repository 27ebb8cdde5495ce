"""Every case of cases.yaml comes to its rule, for its reason."""

from __future__ import annotations

import pytest
from tests.fleet.matching.cases import WRITTEN, Case, cases, gpu, host, image

from embedmill.fleet.matching import match

CASES = cases()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_image_comes_to_its_rule_for_its_reason(case: Case) -> None:
    card = gpu(case.gpu)
    found = match(card, host(case.driver, card, cuda=case.cuda), image(case.image), name=case.image)
    assert (found.rule, found.image) == (case.rule, case.image), found.steps
    assert case.said in found.reason
    assert case.warned in " ".join(found.warnings)


def test_every_case_names_a_source_and_there_are_no_two_of_the_same() -> None:
    assert {case.source for case in CASES} == set(WRITTEN["sources"])
    assert len({(case.driver, case.gpu, case.image) for case in CASES}) == len(CASES) >= 60


def test_every_gpu_and_every_image_is_in_a_case() -> None:
    assert {case.gpu for case in CASES} == set(WRITTEN["gpus"])
    assert {case.image for case in CASES} == set(WRITTEN["images"])


def test_a_refusal_has_every_rule_that_was_tried_with_its_numbers() -> None:
    card = gpu("rtx3090")
    found = match(card, host("470.223.02", card), image("tf-2.15"))
    tried = [step for step in found.steps if step.startswith("no: ")]
    assert [step.split(": ")[1] for step in tried] == ["native", "minor", "forward"]
    assert "535.54.03" in tried[0]
    assert "525" in tried[1]


def test_what_is_accepted_without_a_price_has_no_warning() -> None:
    card = gpu("a100")
    assert match(card, host("535.54.03", card), image("tf-2.15")).warnings == ()
