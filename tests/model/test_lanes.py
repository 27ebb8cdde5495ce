"""Lanes: who computes what, in which order results come, and that no bit of them depends on it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from tests.models import tiny_image_package, tiny_mixed_package, tiny_text_package

from embedmill.model import Encoder, ModelPackage
from embedmill.model.lanes import MOST_LANES, in_lanes, lanes_of

WAIT_S = 60.0


def test_with_one_lane_the_thread_that_asks_computes_and_nothing_is_ahead() -> None:
    made: list[int] = []

    def noted(item: int) -> int:
        made.append(item)
        return threading.get_ident()

    results = in_lanes([noted], range(3))
    assert next(results) == (0, threading.get_ident())
    assert made == [0]


def test_lanes_compute_beside_each_other() -> None:
    both = threading.Barrier(2)
    found = list(in_lanes([lambda _: both.wait(WAIT_S) in {0, 1}] * 2, range(4)))
    assert found == [(item, True) for item in range(4)]


def test_results_come_in_order_whichever_was_first() -> None:
    second = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert second.wait(WAIT_S)
        second.set()
        return item * 10

    assert list(in_lanes([work] * 2, range(5))) == [(item, item * 10) for item in range(5)]


def test_an_error_is_raised_where_its_result_would_be() -> None:
    def work(item: int) -> int:
        if item == 1:
            raise ValueError(f"item {item}")
        return item

    results = in_lanes([work] * 2, range(9))
    assert next(results) == (0, 0)
    with pytest.raises(ValueError, match="item 1"):
        next(results)


def test_whoever_stops_waits_for_what_is_in_work_and_for_nothing_else() -> None:
    begun, ended = list[int](), list[int]()
    go_on, all_at_work = threading.Event(), threading.Barrier(3)

    def work(item: int) -> None:
        begun.append(item)
        if item:
            all_at_work.wait(WAIT_S)
            assert go_on.wait(WAIT_S)
        ended.append(item)

    with closing(in_lanes([work] * 2, range(50))) as results:
        next(results)
        all_at_work.wait(WAIT_S)
        assert len(begun) == 3
        threading.Timer(0.05, go_on.set).start()
    assert sorted(ended) == sorted(begun)
    assert len(begun) < 6


def test_each_lane_has_its_own_work_and_each_thread_one_of_them() -> None:
    both = threading.Barrier(2)

    def noting(name: str) -> Callable[[int], tuple[str, int]]:
        def work(_: int) -> tuple[str, int]:
            both.wait(WAIT_S)
            return name, threading.get_ident()

        return work

    done = {result for _, result in in_lanes([noting("a"), noting("b")], range(6))}
    assert len(done) == 2
    assert {name for name, _ in done} == {"a", "b"}


def test_smaller_batches_are_computed_in_as_many_lanes(tmp_path: Path) -> None:
    encoder = Encoder.load(ModelPackage.open(tiny_text_package(tmp_path / "text")), lanes=3)
    smaller = encoder.smaller()
    assert smaller is not None
    assert (smaller.lanes, smaller.profile.batch_tokens) == (3, 256)


def test_texts_of_onnx_runtime_may_have_many_lanes(tmp_path: Path) -> None:
    assert lanes_of(ModelPackage.open(tiny_text_package(tmp_path / "text"))) == MOST_LANES


def test_images_and_other_runtimes_have_a_process_each(tmp_path: Path) -> None:
    assert lanes_of(ModelPackage.open(tiny_image_package(tmp_path / "image"))) == 1
    assert lanes_of(ModelPackage.open(tiny_mixed_package(tmp_path / "mixed"))) == 1
    folder = tiny_text_package(tmp_path / "openvino")
    spec = yaml.safe_load((folder / "model.yaml").read_text())
    spec["runtimes"] = [each | {"kind": "openvino"} for each in spec["runtimes"]]
    (folder / "model.yaml").write_text(yaml.safe_dump(spec))
    assert lanes_of(ModelPackage.open(folder)) == 1


@pytest.mark.parametrize("lanes", [2, 5])
def test_vectors_have_the_same_bits_with_any_number_of_lanes(tmp_path: Path, lanes: int) -> None:
    package = ModelPackage.open(tiny_text_package(tmp_path / "model"))
    alone = Encoder.load(package, batch_tokens=64)
    encoder = Encoder.load(package, batch_tokens=64, lanes=lanes)
    texts = ["red lamp " * (1 + n % 7) + str(n) for n in range(200)]
    ready = encoder.prepare(pa.record_batch(dict.fromkeys(encoder.fields, texts)))
    told, threads = list[int](), set[int]()

    def on_batch(rows: int) -> None:
        told.append(rows)
        threads.add(threading.get_ident())

    found = encoder.compute(ready, on_batch=on_batch)
    assert found.vectors_ND.tobytes() == alone.compute(ready).vectors_ND.tobytes()
    assert told == [len(batch) for batch in ready.batches]
    assert threads == {threading.get_ident()}
