"""A run that dies at any step, or gets no answer to any conditional write, ends as an undisturbed one."""

from __future__ import annotations

import random

import pytest
from tests.simulation.history import Stage, own_folders
from tests.simulation.solo import Beginning, Solo, Step, calm_calls, steps_of

from embedmill.store.faults import AnswerLost, At, Call, Crash, Fault, Faults, Late, Script

CONDITIONAL = frozenset({"put_if_absent", "copy_if_absent"})


@pytest.fixture(scope="module")
def beginning(stage: Stage) -> Beginning:
    return Beginning.of(stage)


@pytest.fixture(scope="module")
def calls(beginning: Beginning) -> list[Call]:
    return calm_calls(beginning)


@pytest.fixture(scope="module")
def steps(calls: list[Call]) -> list[Step]:
    return steps_of(calls)


def disturbed(beginning: Beginning, seed: int, faults: Faults) -> None:
    with own_folders():
        solo = Solo(beginning, seed)
        report, _ = solo.refresh(faults)
        solo.check(report)


def at(step: Step, fault: Fault, chance: random.Random) -> At:
    """A fault at one of the times that a calm run takes the step."""
    return At(fault, step.verb, step.key, nth=chance.randint(1, step.count))  # type: ignore[arg-type]


def test_there_are_more_than_forty_steps_to_die_at(steps: list[Step]) -> None:
    assert 2 * len(steps) >= 40
    named = {f"{step.verb} {step.key}" for step in steps}
    for verb, key in (
        ("put_if_absent", "runs/*/plan.json"),
        ("put_if_absent", "runs/*/frozen/*"),
        ("put_if_absent", "runs/*/leases/*"),
        ("put_if_absent", "releases/*/vectors/*"),
        ("put_if_absent", "runs/*/commits/*"),
        ("copy_if_absent", "releases/*/vectors/*"),
        ("put_if_absent", "releases/*/CONTENT.json"),
        ("delete", "releases/*/vectors/*"),
        ("put", "runs/*/gates.json"),
        ("put_if_absent", "releases/*/MANIFEST.json"),
        ("put_if_absent", "runs/*/terminal.json"),
        ("put_if_absent", "log/*"),
        ("put", "HEAD"),
    ):
        assert f"{verb} simulated/{key}" in named


@pytest.mark.soak(quick=1, large=10)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_that_dies_at_any_step_is_finished_by_the_next(
    beginning: Beginning, steps: list[Step], seed: int, when: str
) -> None:
    for step in steps:
        chance = random.Random(f"{seed} {when} {step}")
        disturbed(beginning, seed, Script(at(step, Crash(when), chance)))  # type: ignore[arg-type]


@pytest.mark.soak(quick=10, large=300)
def test_a_run_that_dies_at_any_call_is_finished_by_the_next(
    beginning: Beginning, calls: list[Call], seed: int
) -> None:
    chance = random.Random(seed)
    fault = Crash(chance.choice(["before", "after"]))
    disturbed(beginning, seed, Script(At(fault, nth=chance.randint(1, len(calls)))))


@pytest.mark.soak(quick=1, large=100)
def test_a_conditional_write_without_an_answer_is_settled_without_a_person(
    beginning: Beginning, steps: list[Step], seed: int
) -> None:
    """The write has landed, or lands at once, or after other calls; its own retries come in between."""
    for step in (step for step in steps if step.verb in CONDITIONAL):
        chance = random.Random(f"{seed} {step}")
        late: list[Fault] = [AnswerLost(), Late(1), Late(2), Late(chance.randint(3, 60))]
        fault = chance.choice(late)
        disturbed(beginning, seed, Script(at(step, fault, chance)))
