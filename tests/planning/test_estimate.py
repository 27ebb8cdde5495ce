"""How long work should take: measured on a few rows, or taken over from a release that did much of it."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.models import tiny_text_package
from tests.support.mill import Mill, items

from embedmill.errors import ModelError
from embedmill.model import Encoder, ModelPackage
from embedmill.model.feeds import Fed
from embedmill.planning.estimate import IMAGE_COST, Aside, measure, row_costs
from embedmill.release.runs import open_plans, terminal_of
from embedmill.spec import EncoderInputs
from embedmill.types import CanonicalColumn
from embedmill.work import WorkerOptions, work

SIZES = {"resize": {"shorter": 8}, "crop": {"height": 8, "width": 8}}


def test_a_first_estimate_is_measured_on_some_of_the_rows(mill: Mill) -> None:
    mill.settings = {"work": {"workers": 2, "shard_rows": 20}}
    estimate = mill.planned(items(60)).plan.estimate
    assert estimate.seconds is not None
    assert 0 < estimate.seconds < 10
    assert estimate.source.startswith("measured on ")
    assert estimate.source.endswith(" of the rows, 2 cores at a time")


def test_what_is_measured_has_the_vectors_that_it_has_otherwise(tmp_path: Path) -> None:
    encoder = Encoder.load(ModelPackage.open(tiny_text_package(tmp_path / "model")), batch_tokens=8)
    rows = pa.record_batch({field: [f"red lamp {n}" for n in range(40)] for field in encoder.fields})
    encoded, measured = measure(encoder, rows)
    assert encoded.vectors_ND.tobytes() == encoder.encode(rows).vectors_ND.tobytes()
    assert measured.rows == 40
    assert measured.seconds > 0


class Clock:
    """What is spent is told to it, by each thread of its own time. Whoever waits has waited until then.

    The thread that made it waits before every other call that it makes, after the first; none works then.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._waits, self._calls = threading.get_ident(), 0

    def spend(self, seconds: float) -> None:
        self._seconds[threading.get_ident()] = self._seconds.get(threading.get_ident(), 0.0) + seconds

    def __call__(self) -> float:
        mine = threading.get_ident()
        if mine == self._waits:
            if self._calls and self._calls % 2 == 0:
                self._seconds[mine] = max(self._seconds.values())
            self._calls += 1
        return self._seconds.get(mine, 0.0)


@pytest.mark.parametrize(("make_s", "compute_s"), [(3.0, 1.0), (1.0, 3.0), (2.0, 2.0)])
@pytest.mark.parametrize("overlaps", [True, False])
def test_what_is_made_aside_counts_and_what_is_waited_for_does_not(
    overlaps: bool, make_s: float, compute_s: float
) -> None:
    """An estimate is of one thread, which would make the arrays of each batch before it computes it."""
    clock = Clock()
    aside = Aside(overlaps=overlaps, clock=clock)
    batches = [Fed({}, np.arange(size), {}, {}) for size in (4, 4, 2)]

    def made() -> Iterator[Fed]:
        for batch in batches:
            clock.spend(make_s)
            yield batch

    def compute() -> list[Fed]:
        computed = []
        with aside.feeding(made()) as fed:
            for batch in fed:
                clock.spend(compute_s)
                computed.append(batch)
        return computed

    computed, spent_s = aside.timed(compute)
    assert [id(each) for each in computed] == [id(each) for each in batches]
    assert spent_s == 3 * (make_s + compute_s)
    assert (aside.waited_s > 0) == overlaps


def test_the_rate_of_a_live_release_that_computed_much_is_taken_over(mill: Mill) -> None:
    mill.settings = {"work": {"workers": 1}}
    first = mill.run(items(1200)).release
    content = mill.live().content
    estimate = mill.planned(items(1300)).plan.estimate
    assert estimate.source == f"the rate of release {first}, 1 core at a time"
    assert estimate.seconds == pytest.approx(content.seconds / 1200 * 100, abs=0.001)


def test_loops_of_several_threads_took_so_many_times_more_of_the_cores(mill: Mill) -> None:
    mill.settings = {"work": {"workers": 1}}
    planned = mill.planned(items(1200))
    work(planned.home, planned.plan.run, WorkerOptions("here", threads=2))
    planned.run()
    content = mill.live().content
    estimate = mill.planned(items(1300)).plan.estimate
    assert estimate.seconds == pytest.approx(2 * content.seconds / 1200 * 100, abs=0.001)


def test_the_rate_of_another_model_is_not_taken_over(mill: Mill, tmp_path: Path) -> None:
    mill.run(items(1200))
    mill.model = tiny_text_package(tmp_path / "other", seed=1)
    assert mill.planned().plan.estimate.source.startswith("measured on ")


def test_a_model_that_cannot_be_loaded_is_found_out_before_any_work(mill: Mill, tmp_path: Path) -> None:
    mill.model = tiny_text_package(tmp_path / "own")
    (mill.model / "model.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError):
        mill.planned(items(3))
    assert list(open_plans(mill.home)) == []


def test_a_plan_loads_the_model_once_and_lets_go_of_it(mill: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[weakref.ref[Encoder]] = []
    load = Encoder.load

    def noted(*arguments: Any, **options: Any) -> Encoder:
        encoder = load(*arguments, **options)
        loaded.append(weakref.ref(encoder))
        return encoder

    monkeypatch.setattr(Encoder, "load", noted)
    planned = mill.planned(items(60))  # which measures, and keeps goldens for workers of another stack
    assert planned.plan.estimate.source.startswith("measured on ")
    assert planned.plan.goldens is not None
    assert [each() for each in loaded] == [None]


def test_longer_texts_cost_more_up_to_the_models_length_and_pictures_cost_alike() -> None:
    inputs = EncoderInputs.model_validate(
        {
            "text": {"text": {"template": "{title}", "max_length": 16}},
            "pixels": {"image": {"field": "image", **SIZES}},
        }
    )
    texts = [b"", b"x" * 8, b"x" * 40, b"x" * 4000]
    columns = [CanonicalColumn("text", "text", texts), CanonicalColumn("pixels", "image", [b"b1"] * 4)]
    costs = row_costs(inputs, columns)
    assert (np.diff(costs) > 0).tolist() == [True, True, True]
    assert costs[3] - costs[0] == 14
    assert costs[0] > 200


def test_raw_texts_cost_by_length_files_as_pictures_and_values_next_to_nothing() -> None:
    inputs = EncoderInputs.model_validate(
        {
            "raw": {"string": {"template": "{title}", "max_length": 16}},
            "free": {"string": {"template": "{title}"}},
            "two": {"image": {"field": ["front", "back"], **SIZES}},
            "file": {"bytes": {"field": "front"}},
            "price": {"number": {"field": "price"}},
        }
    )
    texts = [b"", b"x" * 400]
    columns = [
        CanonicalColumn("raw", "string", texts),
        CanonicalColumn("free", "string", texts),
        CanonicalColumn("two", "images", [b""] * 2),
        CanonicalColumn("file", "bytes", [b""] * 2),
        CanonicalColumn("price", "number", [b""] * 2),
    ]
    assert row_costs(inputs, columns).tolist() == [2 + 2 + 3 * IMAGE_COST + 1, 16 + 102 + 3 * IMAGE_COST + 1]


@pytest.mark.parametrize("change", ["model", "live release", "spec"])
def test_an_open_run_that_is_overtaken_is_not_gone_on_with_and_the_reason_is_said(
    mill: Mill, tmp_path: Path, change: str
) -> None:
    mill.model = tiny_text_package(tmp_path / "own")
    run = mill.checked(items(3))
    if change == "model":
        with (mill.model / "model.yaml").open("a") as spec:
            spec.write("# reviewed\n")
    elif change == "live release":
        mill.settings = {"goldens": 3}
        mill.run()
        mill.settings = {}
    else:
        mill.settings = {"goldens": 3}
    again = mill.planned()
    assert not again.resumed
    said = {
        "model": "the model package changed since",
        "live release": "another release went live since",
        "spec": "the pipeline's spec changed since",
    }
    assert again.outlived == {run.plan.run: said[change]}
    closed = terminal_of(run.home, run.plan.run)
    assert (closed is not None) == (change == "live release"), "only what can never go live is closed"
