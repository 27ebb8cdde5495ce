"""Where memory is too short for a batch, its shard is tried again with smaller ones; the record says so."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest
from tests.models import tiny_image_package, tiny_mixed_package, tiny_text_package
from tests.support.cramped_worker import hungry_package
from tests.support.killing import workers_on
from tests.support.mill import Mill, items
from tests.support.patience import until
from tests.support.stock import Stock

from embedmill.driving import drive
from embedmill.engines import LocalEngine
from embedmill.errors import OutOfMemory
from embedmill.model import Encoder, ModelPackage
from embedmill.model.batches import OF_TEXTS, Budgets, most_halvings
from embedmill.model.lanes import Sessions
from embedmill.planned import PlannedRun
from embedmill.release.describe import run_states
from embedmill.release.layout import Home
from embedmill.release.vectors import VectorPart
from embedmill.runtimes.base import run_failure
from embedmill.spec.calibration import Calibration, Measured, Setting
from embedmill.spec.documents import CommitRecord
from embedmill.types import Opening
from embedmill.work import Opened, WorkerOptions, work
from embedmill.work.shrinking import smaller
from embedmill.world import World


def work_with_little_memory(mill: Mill, run: PlannedRun, mib: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.support.cramped_worker", "pipeline.yaml", run.plan.run, str(mib)]
    paths = {"PYTHONPATH": str(Path(__file__).parents[2]), "TOKENIZERS_PARALLELISM": "false"}
    return subprocess.run(command, cwd=mill.root, env=paths, capture_output=True, text=True, timeout=600)


def test_a_loop_with_little_memory_embeds_every_row_in_smaller_batches(mill: Mill, tmp_path: Path) -> None:
    mill.model = hungry_package(tmp_path / "hungry")
    mill.settings = {"work": {"batch_tokens": 512, "shard_rows": 40}}
    mill.schema = pa.schema([("sku", pa.string()), ("title", pa.string()), ("category", pa.string())])
    rows = [{"sku": f"s{n}", "title": f"item {n:04}", "category": "all"} for n in range(100)]
    mill.settings |= {"catalog": {"source": "items.parquet", "id": "sku", "display": ["title"]}}
    run = mill.planned(rows)
    ended = work_with_little_memory(mill, run, 800)  # of which threads reserve some 72 MiB each
    assert ended.returncode == 0, ended.stderr
    for shard in run.plan.shards:
        key = run.home.run_key(run.plan.run, "commits", f"{shard.name}.json")
        record = run.home.read(CommitRecord, key)
        assert record.profile.batch_tokens in {32, 64, 128, 256}
        frozen = pa.ipc.open_file(run.home.verified(run.home.key(shard.file.path), shard.file)).read_all()
        encoder = Encoder.load(ModelPackage.open(mill.model), batch_tokens=record.profile.batch_tokens)
        expected = encoder.encode(frozen.combine_chunks().to_batches()[0]).vectors_ND
        assert record.vectors is not None
        part = VectorPart.open(run.home.verified(run.home.key(record.vectors.path), record.vectors))
        assert np.array_equal(part.vectors_ND, expected)
    event = json.loads(run.home.store.get(run.home.run_key(run.plan.run, "events", "cramped.json")))
    assert event["smaller"]["batch_tokens"] == record.profile.batch_tokens
    assert event["rows_done"] == 100
    assert event["attempts"] > len(run.plan.shards)
    (state,) = run_states(run.home, lambda _: "")
    assert [loop.smaller for loop in state.loops] == [event["smaller"]]
    assert run.run().embedded == 100


def test_a_loop_that_the_kernel_ended_for_lack_of_memory_starts_again_with_smaller_batches(
    mill: Mill, tmp_path: Path
) -> None:
    """The real engine and a real SIGKILL; the kernel's count stands in a file of the test's own.

    The last shard is kept until then, so that the loop cannot be done before.
    """
    mill.settings = {"work": {"workers": 1, "shard_rows": 2, "batch_tokens": 512}}
    run = mill.planned(items(40))
    kills = tmp_path / "vmstat"
    kills.write_text("pgfault 7\noom_kill 3\n")
    engine = LocalEngine([tmp_path / "no-cgroup", kills], settled_s=3600)

    def kill_after_the_first_commit() -> None:
        folder = run.home.run_key(run.plan.run, "commits")
        until(lambda: list(run.home.store.list(folder)), "a commit record")
        (loop,) = workers_on(mill.root / "pipeline.yaml")
        (tmp_path / "next").write_text("pgfault 7\noom_kill 4\n")
        (tmp_path / "next").replace(kills)  # the engine reads it meanwhile
        loop.kill()
        stock.hand_out()

    with Stock(run.home, run.plan) as stock, ThreadPoolExecutor(1) as pool:
        stock.hand_out_all_but_one()
        killing = pool.submit(kill_after_the_first_commit)
        drive(run.home, run.plan, run.plan.pipeline.work, engine, run.url, lambda _: None)
        killing.result()
    keys = [info.key for info in run.home.store.list(run.home.run_key(run.plan.run, "commits"))]
    sizes = Counter(run.home.read(CommitRecord, key).profile.batch_tokens for key in keys)
    assert set(sizes) == {512, 256}
    assert sizes.total() == len(run.plan.shards)


def test_a_run_is_not_worn_out_while_each_new_start_takes_less_memory(mill: Mill, tmp_path: Path) -> None:
    """Three loops in a row die before they finish anything, where one may be lost: the fourth has enough."""
    mill.settings = {"work": {"workers": 1, "shard_rows": 20, "batch_tokens": 512, "attempts": 1}}
    run = mill.planned(items(40))
    kills = tmp_path / "vmstat"
    kills.write_text("oom_kill 0\n")

    def kill_three() -> None:
        seen = set[int]()
        for number in range(1, 4):
            loop = wait_for_another(mill, seen)
            (tmp_path / "next").write_text(f"oom_kill {number}\n")
            (tmp_path / "next").replace(kills)
            loop.kill()
        wait_for_another(mill, seen)
        stock.hand_out()

    with Stock(run.home, run.plan) as stock, ThreadPoolExecutor(1) as pool:
        killing = pool.submit(kill_three)
        engine = LocalEngine([kills], settled_s=3600)
        drive(run.home, run.plan, run.plan.pipeline.work, engine, run.url, lambda _: None)
        killing.result()
    keys = [info.key for info in run.home.store.list(run.home.run_key(run.plan.run, "commits"))]
    assert [run.home.read(CommitRecord, key).profile.batch_tokens for key in keys] == [64, 64]


def wait_for_another(mill: Mill, seen: set[int]) -> psutil.Process:
    """The loop that runs, once it is none of those; it is one of them then."""
    found = list[psutil.Process]()

    def another() -> bool:
        found[:] = [loop for loop in workers_on(mill.root / "pipeline.yaml") if loop.pid not in seen]
        return bool(found)

    until(another, "another loop")
    seen.add(found[0].pid)
    return found[0]


def test_batches_are_halved_to_a_floor_and_then_memory_is_what_is_missing(tiny_model: Path) -> None:
    error = OutOfMemory("no memory")
    half = smaller(Encoder.load(ModelPackage.open(tiny_model), batch_tokens=100), error)
    least = smaller(half, error)
    assert [each.profile.batch_tokens for each in (half, least)] == [50, 32]
    assert most_halvings(1, 100, 1, OF_TEXTS) == 2
    with pytest.raises(OutOfMemory, match=r"no memory; batches of 32 tokens and .* are too large") as caught:
        smaller(least, error)
    assert "work.workers" in caught.value.hint


def test_lanes_are_halved_before_batches_and_make_the_same_vectors(tiny_model: Path) -> None:
    error, encoder = OutOfMemory("no memory"), Encoder.load(ModelPackage.open(tiny_model), lanes=5)
    encoder.sessions.open_all()
    found = []
    for _ in range(3):
        encoder = smaller(encoder, error)
        found.append((encoder.lanes, encoder.sessions.opened, encoder.profile.batch_tokens))
    assert most_halvings(5, 64, 1, OF_TEXTS) == len(found)
    assert found == [(2, 2, 512), (1, 1, 512), (1, 1, 256)]


def test_where_one_session_had_no_memory_batches_are_smaller_at_once(tiny_model: Path) -> None:
    half = smaller(Encoder.load(ModelPackage.open(tiny_model), lanes=5), OutOfMemory("no memory"))
    assert (half.lanes, half.profile.batch_tokens) == (1, 256)


def test_batches_of_images_alone_are_halved_by_images_alone(tmp_path: Path) -> None:
    package = ModelPackage.open(tiny_image_package(tmp_path / "images"))
    smaller_ones: list[Encoder] = []
    with Encoder.load(package, batch_images=4) as encoder:
        while (found := (smaller_ones[-1] if smaller_ones else encoder).smaller()) is not None:
            smaller_ones.append(found)
    assert [(each.profile.batch_tokens, each.profile.batch_images) for each in smaller_ones] == [
        (512, 2),
        (512, 1),
    ]


@pytest.mark.parametrize("package", [tiny_text_package, tiny_image_package, tiny_mixed_package])
@pytest.mark.parametrize(("tokens", "images"), [(512, 1), (32, 16), (100, 8), (32, 1)])
def test_a_loop_can_become_smaller_as_often_as_its_encoder_can(
    tmp_path: Path, package: Callable[[Path], Path], tokens: int, images: int
) -> None:
    opened = ModelPackage.open(package(tmp_path / "model"))
    budgets, times = Budgets.of(opened.inputs("item")), 0
    with Encoder.load(opened, batch_tokens=tokens, batch_images=images) as encoder:
        left = encoder.smaller()
        while left is not None:
            times, left = times + 1, left.smaller()
    assert most_halvings(1, tokens, images, budgets) == times


def test_each_budget_counts_for_those_that_it_bounds() -> None:
    texts, images, both = OF_TEXTS, Budgets(tokens=False, images=True), Budgets(tokens=True, images=True)
    assert [most_halvings(1, 512, 1, budgets) for budgets in (texts, images, both)] == [4, 0, 4]
    assert [most_halvings(1, 32, 16, budgets) for budgets in (texts, images, both)] == [0, 4, 4]


class Hurried(World):
    """A world in which a second goes by whenever somebody looks at the clock."""

    def __init__(self) -> None:
        self.seconds = count()

    def monotonic(self) -> float:
        return float(next(self.seconds))


def sizes_of_a_hurried_loop(
    mill: Mill, per_s: float, options: WorkerOptions, opened: Opened | None = None
) -> tuple[set[int], float]:
    """Batches of a loop which was measured as so fast; and how fast it is in a world of such clocks."""
    mill.settings = {"work": {"shard_rows": 200}}
    run = mill.planned(items(200))
    setting = Setting(batch_tokens=512, sessions=1, threads=1)
    fast = Calibration(
        chosen=setting, measured=(Measured(setting=setting, items_per_s=per_s),), source="measured then"
    )
    plan = run.plan.model_copy(update={"calibration": fast})
    run.home.store.put(run.home.run_key(plan.run, "plan.json"), plan.to_bytes())
    home = Home(run.home.store, run.home.pipeline, world=Hurried())
    work(home, plan.run, options, opened)
    (key,) = [info.key for info in home.store.list(home.run_key(plan.run, "commits"))]
    record = home.read(CommitRecord, key)
    return {record.profile.batch_tokens}, record.rows / record.seconds


@pytest.mark.parametrize(("faults", "expected"), [(10_000, {32}), (0, {512})])
def test_a_loop_far_slower_than_measured_gets_smaller_batches_if_its_memory_is_paged_out(
    mill: Mill, faults: int, expected: set[int]
) -> None:
    turns = count()
    options = WorkerOptions("w", heartbeat_thread=False, major_faults=lambda: faults * next(turns))
    assert sizes_of_a_hurried_loop(mill, 1e6, options)[0] == expected


def test_a_loop_that_had_no_memory_for_more_lanes_is_as_fast_as_those_that_it_has(
    mill: Mill, tmp_path: Path
) -> None:
    """Measured was twice the speed that it has; for the eight lanes that were planned, sixteen times."""
    turns = count()
    options = WorkerOptions("w", heartbeat_thread=False, major_faults=lambda: 10_000 * next(turns))
    _, per_s = sizes_of_a_hurried_loop(mill, 1e-6, options)
    (tmp_path / "other").mkdir()
    other = Mill(tmp_path / "other", mill.model)
    assert sizes_of_a_hurried_loop(other, 2 * per_s, options, cramped(mill.model))[0] == {512}


def cramped(model: Path) -> Opened:
    """A model that is open, and that was to be opened for seven lanes more; there is no memory for one."""
    package = ModelPackage.open(model)
    encoder = Encoder.load(package)
    sessions = Sessions(8, lambda: encoder.runtime, size_bytes=1, left=lambda: 0)
    return Opened(
        Opening(str(model), 512, 16), package, replace(encoder, sessions=sessions), package.stamps()
    )


@pytest.mark.parametrize(
    "said",
    [
        "Failed to allocate memory for requested buffer of size 1073741824",
        "std::bad_alloc",
        "CUDA failure 2: out of memory ; GPU=0",
        "Available memory of 1 is smaller than requested bytes of 2",
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes",
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "RESOURCE_EXHAUSTED: Out of memory while trying to allocate",
        "OOM when allocating tensor with shape[1]",
    ],
)
def test_libraries_say_in_their_own_words_that_they_got_no_memory(said: str) -> None:
    assert type(run_failure(RuntimeError(said), "m")) is OutOfMemory
    assert type(run_failure(MemoryError(), "m")) is OutOfMemory
    assert type(run_failure(RuntimeError("invalid dimension"), "m")) is not OutOfMemory
