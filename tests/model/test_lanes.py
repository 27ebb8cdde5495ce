"""Lanes: who computes what, in which order results come, and that no bit of them depends on it."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import cast

import pyarrow as pa
import pytest
import yaml
from tests.models import tiny_image_package, tiny_mixed_package, tiny_text_package
from tests.support.patience import until, waits_for_futures

from embedmill.errors import ModelError, OutOfMemory
from embedmill.memory import SPARE_BYTES
from embedmill.model import Encoder, ModelPackage
from embedmill.model.lanes import MOST_FILE_LANES, MOST_LANES, Given, Sessions, in_lanes, lanes_of
from embedmill.model.loading import load_model
from embedmill.runtimes import Runtime

WAIT_S = 60.0


def test_with_one_lane_the_thread_that_asks_computes_and_nothing_is_ahead() -> None:
    made: list[int] = []

    def noted(item: int) -> int:
        made.append(item)
        return threading.get_ident()

    results = in_lanes(1, noted, range(3))
    assert next(results) == (0, threading.get_ident())
    assert made == [0]


def test_lanes_compute_beside_each_other() -> None:
    both = threading.Barrier(2)
    found = list(in_lanes(2, lambda _: both.wait(WAIT_S) in {0, 1}, range(4)))
    assert found == [(item, True) for item in range(4)]


def test_results_come_in_order_whichever_was_first() -> None:
    second = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert second.wait(WAIT_S)
        second.set()
        return item * 10

    assert list(in_lanes(2, work, range(5))) == [(item, item * 10) for item in range(5)]


def test_an_error_is_raised_where_its_result_would_be() -> None:
    def work(item: int) -> int:
        if item == 1:
            raise ValueError(f"item {item}")
        return item

    results = in_lanes(2, work, range(9))
    assert next(results) == (0, 0)
    with pytest.raises(ValueError, match="item 1"):
        next(results)


def test_whoever_stops_waits_for_what_is_in_work_and_for_nothing_else() -> None:
    begun, ended = list[int](), list[int]()
    go_on, all_at_work, three = threading.Event(), threading.Barrier(3), threading.Event()

    def offered() -> Iterator[int]:
        yield from range(3)
        three.set()
        yield from range(3, 50)

    def work(item: int) -> None:
        begun.append(item)
        if item:
            all_at_work.wait(WAIT_S)
            assert go_on.wait(WAIT_S)
        else:
            assert three.wait(WAIT_S)
        ended.append(item)

    with closing(in_lanes(2, work, offered())) as results:
        next(results)
        all_at_work.wait(WAIT_S)
        assert len(begun) == 3
        threading.Timer(0.05, go_on.set).start()
    assert sorted(ended) == sorted(begun)
    assert len(begun) < 6


def test_a_result_is_told_before_as_many_items_wait_as_may() -> None:
    """That the third item is begun shows that the first one is done: the second keeps the other lane."""
    third, told = threading.Event(), threading.Event()

    def offered() -> Iterator[int]:
        yield from range(3)
        assert third.wait(WAIT_S)
        yield 3
        assert told.wait(WAIT_S)

    def work(item: int) -> int:
        if item == 1:
            assert told.wait(WAIT_S)
        if item == 2:
            third.set()
        return item

    results = in_lanes(2, work, offered())
    assert next(results) == (0, 0)
    told.set()
    assert list(results) == [(1, 1), (2, 2), (3, 3)]


class Opened:
    """A session."""


class Model:
    """Runtimes of the same model, as many as are asked for, and the memory that is left."""

    def __init__(self, left: int = 2**40) -> None:
        self.left = left
        self.opened = list[Runtime]()

    def another(self) -> Runtime:
        found = cast("Runtime", Opened())
        self.opened.append(found)
        return found

    def sessions(self, lanes: int) -> Sessions:
        return Sessions(lanes, self.another, 2**30, lambda: self.left - len(self.opened) * 2**30)


def at_once(sessions: Sessions, count: int) -> list[Runtime | None]:
    """The sessions that so many have, all at the same time."""
    with ExitStack() as held:
        return [held.enter_context(sessions.one()) for _ in range(count)]


def test_a_further_session_is_opened_for_whoever_finds_none_free_and_then_kept() -> None:
    model = Model()
    sessions = model.sessions(lanes=3)
    assert [at_once(sessions, 1), at_once(sessions, 1), model.opened] == [[None], [None], []]
    assert at_once(sessions, 3) == [None, *model.opened]
    assert set(at_once(sessions, 3)) == {None, *model.opened}
    assert (len(model.opened), sessions.opened) == (2, 3)


def test_a_thread_gets_the_session_that_it_had_whichever_was_free_last() -> None:
    sessions = Model().sessions(lanes=2)
    with ThreadPoolExecutor(1) as other_thread:
        mine, other = sessions.one(), sessions.one()
        had = mine.__enter__()
        others = other_thread.submit(other.__enter__).result(WAIT_S)
        mine.__exit__(None, None, None)
        other_thread.submit(other.__exit__, None, None, None).result(WAIT_S)
        assert others is not had
        assert at_once(sessions, 1) == [had]
        assert other_thread.submit(at_once, sessions, 1).result(WAIT_S) == [others]


def test_a_session_that_memory_is_too_short_for_is_not_opened() -> None:
    model = Model(left=SPARE_BYTES + 2**30)
    sessions = model.sessions(lanes=8)
    sessions.open_all()
    assert (len(model.opened), sessions.opened, sessions.lanes) == (1, 2, 2)


def test_all_others_are_opened_while_the_encoder_opens_its_own() -> None:
    all_three = threading.Barrier(3)

    def another() -> Runtime:
        all_three.wait(WAIT_S)
        return cast("Runtime", Opened())

    sessions = Sessions(3, another)
    with sessions.opened_beside():
        all_three.wait(WAIT_S)
    assert (sessions.opened, sessions.lanes) == (3, 3)
    assert None in at_once(sessions, 3)


def test_the_session_that_the_encoder_opens_itself_needs_its_memory_first() -> None:
    model = Model(left=SPARE_BYTES + 2 * 2**30)
    sessions = model.sessions(lanes=8)
    with sessions.opened_beside():
        while sessions.lanes == 8:
            time.sleep(0.001)
    assert (len(model.opened), sessions.opened, sessions.lanes) == (1, 2, 2)


def test_where_the_encoder_cannot_open_its_own_its_error_is_told_and_no_thread_is_left() -> None:
    before = threading.enumerate()

    def another() -> Runtime:
        raise ModelError("damaged, says another lane")

    with pytest.raises(ModelError, match="says the encoder"), Sessions(4, another).opened_beside():
        raise ModelError("damaged, says the encoder")
    assert threading.enumerate() == before


def test_a_session_that_cannot_be_opened_beside_the_encoders_own_is_a_lane_less() -> None:
    def another() -> Runtime:
        raise ModelError("damaged")

    sessions = Sessions(2, another)
    with sessions.opened_beside():
        pass
    assert (sessions.opened, sessions.lanes, at_once(sessions, 1)) == (1, 1, [None])


def test_a_session_that_gets_no_memory_leaves_its_batch_to_the_others() -> None:
    def another() -> Runtime:
        raise OutOfMemory("no memory")

    sessions = Sessions(4, another)
    done = ThreadPoolExecutor(1)
    with done, sessions.one():
        second = done.submit(at_once, sessions, 1)
        while sessions.lanes > 1:
            time.sleep(0.001)
    assert second.result(WAIT_S) == [None]
    assert (sessions.opened, sessions.lanes) == (1, 1)


def test_what_is_wrong_with_a_further_session_is_told_by_the_batch_that_needs_it() -> None:
    def another() -> Runtime:
        raise ModelError("damaged")

    sessions = Sessions(2, another)
    with pytest.raises(ModelError, match="damaged"):
        at_once(sessions, 2)


def test_fewer_lanes_let_go_of_sessions_but_not_of_the_encoders_own() -> None:
    model = Model()
    sessions = model.sessions(lanes=4)
    at_once(sessions, 4)
    held = [weakref.ref(each) for each in model.opened]
    model.opened.clear()
    sessions.limit(1)
    assert [each() for each in held] == [None] * 3
    assert (at_once(sessions, 1), sessions.lanes) == ([None], 1)


def test_one_batch_opens_one_session_and_other_batch_sizes_share_what_is_open(tmp_path: Path) -> None:
    encoder = Encoder.load(ModelPackage.open(tiny_text_package(tmp_path / "text")), lanes=8)
    one = encoder.encode(pa.record_batch({field: ["red lamp"] for field in encoder.fields}))
    assert (encoder.sessions.opened, one.lanes) == (1, 1)
    encoder.sessions.open_all()
    other = encoder.with_batches(tokens=16, images=1)
    ready = other.prepare(pa.record_batch({field: ["red lamp"] * 9 for field in encoder.fields}))
    assert other.sessions is encoder.sessions
    assert other.compute(ready).lanes == min(8, len(ready.batches)) > 1


def test_a_model_that_is_damaged_is_told_alike_however_many_lanes_open_it(tmp_path: Path) -> None:
    package, before = ModelPackage.open(tiny_text_package(tmp_path / "text")), threading.enumerate()
    file = package.path("model.onnx")
    file.write_bytes(file.read_bytes().replace(b"Gather", b"Gothic"))
    said = set[str]()
    for lanes in (1, 4):
        with pytest.raises(ModelError, match="ONNX Runtime cannot load it") as raised:
            load_model(package, lanes=lanes, all_lanes=lanes > 1)
        said.add(str(raised.value))
    assert len(said) == 1
    assert threading.enumerate() == before


def test_all_lanes_are_open_where_that_is_asked_for_whether_one_runtime_may_be_meant_or_several(
    tmp_path: Path,
) -> None:
    folder = tiny_text_package(tmp_path / "text")
    assert load_model(ModelPackage.open(folder), lanes=3, all_lanes=True).sessions.opened == 3
    spec = yaml.safe_load((folder / "model.yaml").read_text())
    spec["runtimes"] = [each | {"encoders": ["item", "query_text"]} for each in spec["runtimes"]] * 2
    (folder / "model.yaml").write_text(yaml.safe_dump(spec))
    assert load_model(ModelPackage.open(folder), lanes=3, all_lanes=True).sessions.opened == 3


def test_texts_of_onnx_runtime_may_have_many_lanes(tmp_path: Path) -> None:
    assert lanes_of(ModelPackage.open(tiny_text_package(tmp_path / "text"))) == MOST_LANES


def test_images_have_fewer_lanes_for_one_thread_makes_the_arrays_of_all(tmp_path: Path) -> None:
    assert lanes_of(ModelPackage.open(tiny_image_package(tmp_path / "image"))) == MOST_FILE_LANES
    assert lanes_of(ModelPackage.open(tiny_mixed_package(tmp_path / "mixed"))) == MOST_FILE_LANES


def test_other_runtimes_have_a_process_each(tmp_path: Path) -> None:
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
    encoder.sessions.open_all()
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


@pytest.mark.parametrize("lanes", [1, 2])
def test_what_another_thread_was_given_keeps_its_place_and_is_not_done_again(lanes: int) -> None:
    with ThreadPoolExecutor(1) as early:
        begun = Given(0, early.submit(lambda: "early"))
        assert list(in_lanes(lanes, str, [begun, 1, 2])) == [(0, "early"), (1, "1"), (2, "2")]


@pytest.mark.parametrize("lanes", [1, 2])
def test_what_another_thread_was_given_and_did_not_do_is_done_in_its_place(lanes: int) -> None:
    refused: Future[str] = Future()
    refused.set_exception(CancelledError())
    assert list(in_lanes(lanes, str, [Given(0, refused), 1])) == [(0, "0"), (1, "1")]


def test_who_gives_up_waits_for_what_another_thread_was_given() -> None:
    taken, go_on, ended = threading.Event(), threading.Event(), list[str]()

    def slow() -> str:
        assert go_on.wait(WAIT_S)
        ended.append("slow")
        return "slow"

    def fails(_: int) -> str:
        assert taken.wait(WAIT_S)
        raise ValueError("one of them fails")

    def items(early: Future[str]) -> Iterator[int | Given[int, str]]:
        yield 1
        yield Given(2, early)
        taken.set()

    def gives_up(early: Future[str]) -> list[str]:
        with pytest.raises(ValueError, match="fails"):
            list(in_lanes(2, fails, items(early)))
        return list(ended)

    with ThreadPoolExecutor(1) as early, ThreadPoolExecutor(1) as caller:
        found = caller.submit(gives_up, early.submit(slow))
        thread = next(iter(caller._threads))
        until(lambda: found.done() or waits_for_futures(thread))
        go_on.set()
        assert found.result(WAIT_S) == ["slow"]
