"""A calibration leaves the default only for what is surely faster, and tries nothing once its time is up."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pytest

from embedmill.memory import SPARE_BYTES
from embedmill.model import Encoder, ModelPackage
from embedmill.model.calibration import LIMIT_S, Bench, layouts_beside, search
from embedmill.model.feeds import Binding, Prepared
from embedmill.spec.calibration import Setting
from embedmill.types import Rows

FIRST = Setting(batch_tokens=512, sessions=4, threads=1)


def setting(batch_tokens: int, sessions: int = 4, threads: int = 1) -> Setting:
    return Setting(batch_tokens=batch_tokens, sessions=sessions, threads=threads)


def by_tokens(rates: Mapping[int, float]) -> Callable[[Setting], float | None]:
    """A machine that is slower the fewer sessions it has."""
    return lambda asked: rates[asked.batch_tokens] * asked.sessions


@pytest.mark.parametrize(
    ("rates", "chosen"),
    [
        ({256: 10, 512: 20, 1024: 30, 2048: 40, 4096: 35}, 2048),
        ({128: 30, 256: 25, 512: 20, 1024: 15}, 128),
        ({256: 20.5, 512: 20, 1024: 20.9}, 512),
        ({256: 10, 512: 20, 1024: 10}, 512),
    ],
    ids=["larger batches", "smaller batches", "noise", "the default"],
)
def test_budgets_are_climbed_from_the_default_for_as_long_as_they_gain(
    rates: Mapping[int, float], chosen: int
) -> None:
    best, measured = search(FIRST, by_tokens(rates))
    assert best == setting(chosen)
    assert {each.setting for each in measured} >= {best, FIRST}


def test_the_same_cores_are_tried_with_fewer_sessions_of_more_threads() -> None:
    assert layouts_beside(setting(512)) == [setting(512, 2, 2), setting(512, 1, 4)]
    assert layouts_beside(setting(512, 3)) == [setting(512, 1, 3)]
    assert layouts_beside(setting(512, 1)) == []
    best, _ = search(FIRST, lambda asked: float(asked.threads), budgets=())
    assert best == setting(512, 1, 4)
    best, measured = search(FIRST, lambda asked: float(asked.threads), budgets=(), layouts=False)
    assert (best, len(measured)) == (FIRST, 1)


def test_a_single_moment_in_which_others_were_at_work_decides_nothing() -> None:
    asked: list[Setting] = []

    def disturbed(setting: Setting) -> float:
        asked.append(setting)
        return 1.0 if len(asked) == 1 else 2.0

    best, measured = search(FIRST, disturbed)
    assert best == FIRST
    assert max(each.items_per_s for each in measured) == 2.0


def test_without_time_the_default_stays() -> None:
    assert search(FIRST, lambda _: None) == (FIRST, ())
    for last in range(1, 8):
        turns = count(1)
        best, _ = search(FIRST, lambda asked: asked.batch_tokens if next(turns) <= last else None)  # noqa: B023
        assert best.batch_tokens == (512 if last < 4 else 1024 if last < 7 else 2048)


def loaded(folder: Path) -> tuple[Encoder, pa.RecordBatch]:
    encoder = Encoder.load(ModelPackage.open(folder))
    texts = pa.array([f"item {'x' * (number % 50)}" for number in range(200)])
    return encoder, pa.record_batch({"title": texts, "category": texts})


def test_each_session_computes_real_rows_in_a_thread_of_its_own(tiny_model: Path) -> None:
    with Bench(*loaded(tiny_model), FakeClock(step_s=0.05)) as bench:
        rates = [bench.rate(each) for each in (setting(64, 1), setting(128, 2), setting(64, 1, 2))]
    assert all(rate is not None and rate > 0 for rate in rates)


def test_no_session_is_loaded_once_time_is_up(tiny_model: Path) -> None:
    clock = FakeClock(step_s=0.05)
    with Bench(*loaded(tiny_model), clock) as bench:
        assert bench.rate(setting(64, 1))
        clock.now_s += LIMIT_S
        assert bench.rate(setting(64, 1)) is None
        assert bench.rate(setting(64, 2)) is None


def test_sessions_of_one_layout_are_let_go_of_before_another_is_loaded(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[weakref.ref[Encoder]] = []
    most = 0
    load = Encoder.load

    def noted(*arguments: Any, **options: Any) -> Encoder:
        nonlocal most
        encoder = load(*arguments, **options)
        there.append(weakref.ref(encoder))
        most = max(most, sum(each() is not None for each in there))
        return encoder

    encoder, rows = loaded(tiny_model)
    monkeypatch.setattr(Encoder, "load", noted)
    with Bench(encoder, rows, FakeClock(step_s=0.05)) as bench:
        for each in (setting(64, 4), setting(64, 2, 2), setting(64, 1, 4)):
            assert bench.rate(each)
    assert (most, len(there)) == (3, 6)
    assert [each() for each in there] == [None] * 6


def test_where_memory_is_short_nothing_is_loaded_for_a_measurement(tiny_model: Path) -> None:
    left = SPARE_BYTES + 2**30
    with Bench(*loaded(tiny_model), FakeClock(step_s=0.05), lambda: left) as bench:
        assert bench.rate(setting(64, 1))
        left = SPARE_BYTES + 2**10
        assert bench.rate(setting(64, 2)) is None
        assert (bench.short, bench.late) == (True, False)


def test_a_larger_batch_is_not_tried_where_the_last_one_took_half_of_what_is_left(tiny_model: Path) -> None:
    left = [3 * 2**30, 3 * 2**30, 2**30, 2**30]
    with Bench(*loaded(tiny_model), FakeClock(step_s=0.05), lambda: left.pop(0)) as bench:
        assert bench.rate(setting(64, 1))
        assert bench.rate(setting(128, 1)) is None
        assert bench.short


def test_a_setting_that_even_python_gets_no_memory_for_cannot_compute(tiny_model: Path) -> None:
    encoder, rows = loaded(tiny_model)
    hungry = replace(encoder, binding=Hungry(**vars(encoder.binding)))
    with Bench(hungry, rows, FakeClock(step_s=0.05)) as bench:
        assert bench.rate(setting(64, 1)) == 0.0
        assert bench.short


class Hungry(Binding):
    """What finds no memory for a batch."""

    def feed(self, prepared: Prepared, batch: Rows) -> NoReturn:
        raise MemoryError


class FakeClock:
    """A clock that goes on by a step whenever somebody looks."""

    def __init__(self, step_s: float) -> None:
        self.now_s, self.step_s = 0.0, step_s

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s
