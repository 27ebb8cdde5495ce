from __future__ import annotations

import json
from functools import partial

import pytest
from benchmarks.support.measuring import Findings, Spread, Verdict, in_turns


def test_a_spread_has_the_median_and_both_ends() -> None:
    assert Spread.of([5.0, 1.0, 2.0]) == Spread(2.0, 1.0, 5.0, 3)


def test_the_lowest_rate_is_that_of_the_slowest_run() -> None:
    assert Spread.of([5.0, 1.0, 2.0]).per(10) == Spread(5.0, 2.0, 10.0, 3)


def test_ways_take_turns_and_rounds_that_warm_up_do_not_count() -> None:
    order: list[str] = []

    def way(name: str) -> float:
        order.append(name)
        return float(len(order))

    found = in_turns({name: partial(way, name) for name in "ab"}, 2, unmeasured=1)
    assert order == ["a", "b"] * 3
    assert found == {"a": Spread.of([3.0, 5.0]), "b": Spread.of([4.0, 6.0])}


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        (Verdict("of the peak", 0.75, 0.75), "holds   of the peak: 0.75 (wanted: ≥ 0.75)"),
        (Verdict("of the peak", 0.71, 0.75), "MISSED  of the peak: 0.71 (wanted: ≥ 0.75)"),
        (Verdict("seconds", 0.3, 0.25, at_least=False), "MISSED  seconds: 0.3 (wanted: ≤ 0.25)"),
        (Verdict("seconds", 0.2, 0.25, at_least=False), "holds   seconds: 0.2 (wanted: ≤ 0.25)"),
    ],
)
def test_a_verdict_says_the_figure_beside_its_bound(verdict: Verdict, said: str) -> None:
    assert str(verdict) == said


def test_a_missed_bound_is_the_exit_code_of_a_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    held, missed = Verdict("a", 2.0, 1.0), Verdict("b", 0.5, 1.0)
    assert Findings("bench-x/1", {}, [], [held]).tell(as_json=False) == 0
    assert Findings("bench-x/1", {}, [], [held, missed]).tell(as_json=False) == 1
    assert "MISSED  b: 0.5 (wanted: ≥ 1)" in capsys.readouterr().out


def test_as_json_a_benchmark_prints_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    Findings("bench-x/1", {"seconds": Spread.of([1.0])}, ["a line"], [Verdict("a", 2.0, 1.0)]).tell(
        as_json=True
    )
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "bench-x/1"
    assert found["seconds"]["median"] == 1.0
    assert found["verdicts"][0]["held"] is True
