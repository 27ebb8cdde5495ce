"""A run drives loops on servers of others: places come and go, servers die, credentials end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pyarrow as pa
import pytest
from tests.decoding.pictures import encoded, noise
from tests.models import tiny_image_package
from tests.support.mill import Mill, items

from embedmill.driving import drive
from embedmill.engines import StandsBy
from embedmill.errors import PublishLost, StoreFull, WorkerFailed, Yielded
from embedmill.planned import PlannedRun
from embedmill.release.admin import pin
from embedmill.release.draining import drain
from embedmill.release.shares import worker_shares
from embedmill.types import Host, Look, Placement, Progress, WorkerState
from embedmill.work import WorkerOptions, work
from embedmill.world import World

AWAY, EXPIRED, SILENT = 75, 77, 255
PICTURES = pa.schema({"sku": pa.string(), "image": pa.binary()})


@dataclass
class Scripted:
    """An engine whose loops do what a script says at each start: an exit code, or the run's work.

    The kernel ended those that are "starved".
    """

    planned: PlannedRun
    script: dict[str, list[int | str]]
    started: list[str] = field(default_factory=list)
    ended: dict[str, WorkerState] = field(default_factory=dict)
    stopped: bool = False

    def start(self, run_url: str, placements: Sequence[Placement]) -> None:
        for place in placements:
            if place.worker in self.ended and self.ended[place.worker].exit_code is None:
                continue
            self.started.append(place.worker)
            deed = self.script[place.worker].pop(0)
            if deed == "works":
                assert place.host is not None
                where = {"host": place.host.name, "gpu": place.type, "image": place.image}
                options = WorkerOptions(place.worker, where=where, heartbeat_thread=False)
                work(self.planned.home, self.planned.plan.run, options)
            code = {"works": 0, "runs": None, "starved": -9}[deed] if isinstance(deed, str) else deed
            halvings = self.started.count(place.worker) if deed == "starved" else 0
            self.ended[place.worker] = WorkerState(place.worker, code, f"said {deed}", halvings=halvings)

    def states(self) -> list[WorkerState]:
        return list(self.ended.values())

    def stop(self) -> None:
        self.stopped = True


@dataclass
class Fleet:
    """Places that a script gives, look by look; the last look is repeated."""

    looks: list[Look]
    again_s: float | None = 3600.0
    waits: bool = False
    held: list[Collection[str]] = field(default_factory=list)

    def look(self, most: int, held: Collection[str]) -> Look:
        self.held.append(tuple(held))
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]


def test_when_all_yielded_and_others_are_idle_they_take_over(planned: PlannedRun) -> None:
    engine = Scripted(planned, {"gpu-01-0": [AWAY], "gpu-02-0": ["works"]})
    notes = driven(planned, engine, Fleet([free("gpu-01-0"), free("gpu-02-0")]))
    assert notes[0] == "looking for places"
    assert engine.started == ["gpu-01-0", "gpu-02-0"]
    assert "gpu-01-0 ended with exit code 75: said 75" in notes


def test_when_all_yielded_and_none_is_idle_the_run_ends_and_says_who_is_busy(planned: PlannedRun) -> None:
    engine = Scripted(planned, {"gpu-01-0": [AWAY]})
    busy = Look((), {"gpu-01 #0 (Tesla T4)": "busy: python of ada"})
    with pytest.raises(Yielded, match=r"no place is free: gpu-01 #0 \(Tesla T4\): busy: python of ada"):
        driven(planned, engine, Fleet([free("gpu-01-0"), busy]))
    assert engine.stopped


@dataclass
class Full(Scripted):
    """Its loops say that the store has no space left."""

    def start(self, run_url: str, placements: Sequence[Placement]) -> None:
        line = "/mill/a: no space left (disk quota exceeded) (free some space, then `embedmill resume`)"
        self.ended = {place.worker: WorkerState(place.worker, AWAY, line) for place in placements}


def test_a_full_store_ends_the_run_as_what_it_is(planned: PlannedRun) -> None:
    with pytest.raises(StoreFull) as caught:
        driven(planned, Full(planned, {}), Fleet([free("gpu-01-0")], again_s=None))
    expected = f"run {planned.plan.run}: /mill/a: no space left (disk quota exceeded)"
    assert caught.value.message == expected
    assert str(caught.value) == f"{expected} (free some space; then `embedmill resume` goes on)"


def test_a_run_with_no_idle_gpu_starts_nothing_and_does_not_look_twice(planned: PlannedRun) -> None:
    fleet = Fleet([Look((), {"gpu-01 #0": "busy: python of ada", "gpu-02": "unreachable: no route"})])
    engine = Scripted(planned, {})
    with pytest.raises(Yielded, match=r"busy: python of ada; gpu-02: unreachable.*--wait") as caught:
        driven(planned, engine, fleet)
    assert (caught.value.exit_code, engine.started, len(fleet.held)) == (75, [], 1)


def test_a_run_that_waits_begins_when_a_gpu_is_idle(planned: PlannedRun) -> None:
    engine = Scripted(planned, {"gpu-01-0": ["works"]})
    driven(planned, engine, Fleet([Look(()), Look(()), Look(()), free("gpu-01-0")], again_s=0.1, waits=True))
    assert engine.started == ["gpu-01-0"]


def test_a_run_that_waits_says_so_once_each_time(planned: PlannedRun) -> None:
    busy = Look((), {"gpu-01 #0": "busy: python of ada"})
    looks = [busy, busy, free("gpu-01-0"), busy, busy, busy, free("gpu-02-0")]
    engine = Scripted(planned, {"gpu-01-0": [AWAY], "gpu-02-0": ["works"]})
    notes = driven(planned, engine, Fleet(looks, again_s=0.1, waits=True))
    waits = "no place is free: the run waits, and looks again every 0.1 s; Ctrl-C ends it"
    assert notes.count(waits) == 2
    assert notes.index(waits) < notes.index("gpu-01-0 ended with exit code 75: said 75")


@pytest.mark.parametrize("waits", [True, False])
def test_a_place_where_loops_cannot_work_is_not_free(planned: PlannedRun, waits: bool) -> None:
    engine = Scripted(planned, {"gpu-01-0": [125], "gpu-02-0": [AWAY, "works"]})
    busy = Look(free("gpu-01-0").free, {"gpu-02 #0": "busy: python of ada"})
    fleet = Fleet([free("gpu-01-0", "gpu-02-0"), busy, busy, free("gpu-02-0")], again_s=0.1, waits=waits)
    if waits:
        said = "no place is free: the run waits"
        assert sum(note.startswith(said) for note in driven(planned, engine, fleet)) == 1
    else:
        with pytest.raises(Yielded, match="no place is free: gpu-02 #0: busy: python of ada"):
            driven(planned, engine, fleet)


@dataclass
class Queued(Scripted):
    """Its loops were started, and wait for a node, as those of Ray do."""

    asked: int = 0

    def states(self) -> list[WorkerState]:
        self.asked += 1
        if self.asked < 10:
            return [replace(state, exit_code=None, waits=True) for state in self.ended.values()]
        return super().states()


def test_loops_that_wait_for_their_nodes_are_no_lack_of_places(planned: PlannedRun) -> None:
    engine = Queued(planned, {"gpu-01-0": [AWAY, "works"]})
    lacks = Look((), {"t4": "no node has a T4"})
    notes = driven(
        planned, engine, Fleet([free("gpu-01-0"), lacks, free("gpu-01-0")], again_s=0.1, waits=True)
    )
    assert "t4: no node has a T4" in notes
    assert not [note for note in notes if note.startswith("no place is free")]


def test_gpus_that_become_idle_join_a_run(planned: PlannedRun) -> None:
    engine = Scripted(planned, {"gpu-01-0": ["runs"], "gpu-02-0": ["works"]})
    fleet = Fleet([free("gpu-01-0"), free("gpu-02-0")], again_s=0.1)
    driven(planned, engine, fleet)
    assert engine.started == ["gpu-01-0", "gpu-02-0"]
    assert fleet.held[:2] == [(), ("gpu-01-0",)]


def test_a_server_that_is_silent_is_not_tried_again_before_it_is_found_anew(planned: PlannedRun) -> None:
    engine = Scripted(planned, {"gpu-01-0": [SILENT], "gpu-02-0": ["runs"], "gpu-03-0": ["works"]})
    driven(planned, engine, Fleet([free("gpu-01-0", "gpu-02-0"), free("gpu-03-0")], again_s=0.5))
    assert engine.started == ["gpu-01-0", "gpu-02-0", "gpu-03-0"]


def test_loops_whose_credentials_ended_together_start_again_as_one_loss(planned: PlannedRun) -> None:
    names = [f"gpu-0{number}-0" for number in range(1, 9)]
    engine = Scripted(planned, {name: [EXPIRED, "works"] for name in names})
    driven(planned, engine, Fleet([free(*names)]), attempts=1)
    assert engine.started == names * 2


def test_credentials_that_always_end_at_once_end_the_run(planned: PlannedRun) -> None:
    engine = Scripted(planned, {"gpu-01-0": [EXPIRED] * 9})
    with pytest.raises(WorkerFailed, match="4 workers in a row"):
        driven(planned, engine, Fleet([free("gpu-01-0")]))


def test_loops_that_the_kernel_ended_are_no_losses_while_their_batches_become_smaller(
    planned: PlannedRun,
) -> None:
    """From 512 tokens to 32 in four steps."""
    engine = Scripted(planned, {"gpu-01-0": [*["starved"] * 4, "works"]})
    driven(planned, engine, Fleet([free("gpu-01-0")]), attempts=1)
    assert engine.started == ["gpu-01-0"] * 5


def test_the_lanes_of_a_loop_are_halved_first(planned: PlannedRun) -> None:
    places = tuple(replace(place, lanes=8) for place in free("gpu-01-0").free)
    engine = Scripted(planned, {"gpu-01-0": [*["starved"] * 7, "works"]})
    driven(planned, engine, Fleet([Look(places)]), attempts=1)
    assert engine.started == ["gpu-01-0"] * 8


def test_loops_that_the_kernel_ended_with_the_smallest_batches_are_losses(planned: PlannedRun) -> None:
    engine = Scripted(planned, {"gpu-01-0": ["starved"] * 9})
    with pytest.raises(WorkerFailed, match=r"2 workers in a row.*signal 9 for lack of memory") as caught:
        driven(planned, engine, Fleet([free("gpu-01-0")]), attempts=1)
    assert engine.started == ["gpu-01-0"] * 6
    assert "more memory" in caught.value.hint


@pytest.mark.parametrize(("images", "starts"), [(1, 2), (16, 6)])
def test_how_small_batches_can_become_depends_on_what_the_model_reads(
    tmp_path: Path, images: int, starts: int
) -> None:
    """A loop of images has nothing smaller than one, however many tokens texts would have."""
    mill = Mill(tmp_path, tiny_image_package(tmp_path / "model"), PICTURES)
    work_ = {"workers": 1, "batch_images": images, "attempts": 1}
    mill.settings = {"catalog": {"source": "items.parquet", "id": "sku"}, "work": work_}
    planned = mill.planned([{"sku": "a", "image": encoded(noise(8, 8, 0), "PNG")}])
    engine = Scripted(planned, {"local-0": ["starved"] * 9})
    with pytest.raises(WorkerFailed, match="2 workers in a row"):
        replace(planned, engine=cast("StandsBy", engine)).work()
    assert engine.started == ["local-0"] * starts


def test_others_losses_count_beside_those_of_the_kernel(planned: PlannedRun) -> None:
    engine = Scripted(planned, {"gpu-01-0": ["starved", -9, "starved", -9, "works"]})
    with pytest.raises(WorkerFailed, match="2 workers in a row"):
        driven(planned, engine, Fleet([free("gpu-01-0")]), attempts=1)


@pytest.mark.parametrize("code", [1, 2, 125, 127])
def test_a_server_where_loops_cannot_work_is_left_alone_while_others_work(
    planned: PlannedRun, code: int
) -> None:
    engine = Scripted(planned, {"gpu-01-0": [code], "gpu-02-0": ["runs"], "gpu-03-0": ["works"]})
    looks = [free("gpu-01-0", "gpu-02-0"), free("gpu-01-0", "gpu-03-0")]
    notes = driven(planned, engine, Fleet(looks, again_s=0.1))
    assert engine.started == ["gpu-01-0", "gpu-02-0", "gpu-03-0"]
    assert f"gpu-01-0 ended with exit code {code}: said {code}" in notes


def test_where_loops_can_work_nowhere_the_run_fails_with_their_words(planned: PlannedRun) -> None:
    engine = Scripted(planned, {"gpu-01-0": [1]})
    with pytest.raises(WorkerFailed, match="worker gpu-01-0: said 1"):
        driven(planned, engine, Fleet([free("gpu-01-0")]))


def test_a_drained_run_looks_for_no_more_gpus(planned: PlannedRun) -> None:
    fleet = Fleet([free("gpu-01-0")])
    engine = Scripted(planned, {"gpu-01-0": [AWAY]})
    begin = engine.start

    def drained(run_url: str, placements: Sequence[Placement]) -> None:
        begin(run_url, placements)
        drain(planned.home, planned.plan.run)

    engine.start = drained  # type: ignore[method-assign]
    with pytest.raises(Yielded, match="the run is drained"):
        driven(planned, engine, fleet)
    assert len(fleet.held) == 1


def test_a_failing_search_ends_the_run(planned: PlannedRun) -> None:
    class Broken(Fleet):
        def look(self, most: int, held: Collection[str]) -> Look:
            if held:
                raise WorkerFailed("the search")
            return super().look(most, held)

    engine = Scripted(planned, {"gpu-01-0": ["runs"]})
    with pytest.raises(WorkerFailed, match="the search"):
        driven(planned, engine, Broken([free("gpu-01-0")], again_s=0.1))


def test_shares_say_which_gpu_did_how_much(planned: PlannedRun) -> None:
    engine = Scripted(planned, {"gpu-01-0": ["works"]})
    driven(planned, engine, Fleet([free("gpu-01-0")]))
    (share,) = worker_shares(planned.home, planned.plan)
    assert (share.worker, share.server, share.type, share.image) == (
        "gpu-01-0",
        "gpu-01",
        "Tesla T4",
        "tf-2.15",
    )
    assert (share.shards, share.vectors, share.device) == (2, 12, "cpu")
    assert share.vectors_per_s > 0


class Meanwhile(World):
    """An hour passes with every wait; at the first one something happens, and nobody waits for ever."""

    def __init__(self, what: Callable[[], object]) -> None:
        self.deeds, self.waits = [what], 0

    def monotonic(self) -> float:
        return 3600.0 * self.waits

    def sleep(self, seconds: float) -> None:
        self.waits += 1
        assert self.waits < 100, "it computes for a release that can never be"
        if self.deeds:
            self.deeds.pop()()


def test_a_run_ends_when_another_release_went_live_and_its_shards_are_taken_over(mill: Mill) -> None:
    """Two plans of the same moment: the second one's base is not live any more."""
    mill.settings["work"] = {"shard_rows": 6}
    late = mill.worked(items(12))
    for shard in late.plan.shards[1:]:
        late.home.store.delete(late.home.run_key(late.plan.run, "commits", f"{shard.name}.json"))

    def publish_another() -> None:
        mill.write(items(3))
        mill.run()

    engine, home = Scripted(late, {"a-0": ["runs"]}), replace(late.home, world=Meanwhile(publish_another))
    with pytest.raises(PublishLost, match=r"planned on release none, but release .* is live now") as said:
        drive(
            home, late.plan, late.pipeline.spec.work, engine, late.url, lambda _: None, Fleet([free("a-0")])
        )
    assert said.value.exit_code == 75
    assert engine.stopped
    again = mill.planned(items(12))
    assert [source.run for source in again.plan.salvaged] == [late.plan.run]


def test_entries_of_the_log_that_leave_the_base_live_end_no_run(mill: Mill) -> None:
    mill.run(items(3))
    planned = mill.planned(items(12))

    def note_and_work() -> None:
        pin(home, "1", note="kept")
        work(planned.home, planned.plan.run, WorkerOptions("here"))

    home = replace(planned.home, world=Meanwhile(note_and_work))
    engine, spec = Scripted(planned, {"a-0": ["runs"]}), planned.pipeline.spec.work
    drive(home, planned.plan, spec, engine, planned.url, lambda _: None, Fleet([free("a-0")]))
    assert planned.run().number == 3  # after the pin


@pytest.fixture
def planned(mill: Mill) -> PlannedRun:
    mill.settings["work"] = {"shard_rows": 6}
    return mill.planned(items(12))


def free(*workers: str) -> Look:
    """Places on servers that are named before the last hyphen."""
    return Look(
        tuple(
            Placement(
                name, host=Host(name.rpartition("-")[0], (), "/nowhere"), type="Tesla T4", image="tf-2.15"
            )
            for name in workers
        )
    )


def driven(planned: PlannedRun, engine: Scripted, fleet: Fleet, *, attempts: int = 3) -> list[str]:
    """Drive the run to its end; returns what was said."""
    notes: list[str] = []

    def hear(progress: Progress) -> None:
        if progress.note:
            notes.append(progress.note)

    spec = planned.pipeline.spec.work.model_copy(update={"attempts": attempts})
    drive(planned.home, planned.plan, spec, engine, planned.url, hear, fleet)
    assert engine.stopped
    return notes
