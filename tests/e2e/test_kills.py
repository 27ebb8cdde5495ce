"""kill -9 of a run, or of a worker, at any moment: the next run finishes what the plan says, and no more."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.models import tiny_text_package
from tests.support.killing import (
    a_worker_of,
    assert_nothing_was_done_twice,
    commits,
    home,
    start,
    stock_of,
    wait_for_a_commit,
    wait_for_orphans,
    workers_on,
)
from tests.support.patience import PATIENCE_S

from embedmill import Pipeline, Release
from embedmill.release.runs import open_plans

ITEMS = 240
SHARD_ROWS = 5
SPEC = f"""
name: kills
catalog: {{source: items.parquet, id: sku, display: [title]}}
model: model
store: ./mill
index: {{kind: flat}}
work: {{shard_rows: {SHARD_ROWS}, workers: 2, attempts: 100}}
"""


@dataclass(frozen=True)
class Undisturbed:
    """What a run that nobody killed published, and how long it took."""

    digest: str
    items: dict[str, bytes]
    seconds: float


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    spec = make_pipeline(tmp_path_factory.mktemp("undisturbed"))
    started = time.monotonic()
    run_to_the_end(spec)
    seconds = time.monotonic() - started
    release = live(spec)
    return Undisturbed(release.content.content_digest, vectors_of(release), seconds)


@pytest.mark.soak(quick=5, large=60)
def test_a_killed_run_is_finished_by_the_next(tmp_path: Path, undisturbed: Undisturbed, seed: int) -> None:
    spec = make_pipeline(tmp_path)
    moment = (0.1 + 0.9 * spread(seed)) * undisturbed.seconds
    process = start(["run", str(spec), "--json"])
    time.sleep(moment)
    process.kill()
    process.wait()
    wait_for_orphans(spec)
    before = commits(spec)
    is_open = next(open_plans(home(spec)), None) is not None
    run_to_the_end(spec, command="resume" if is_open and seed % 2 else "run")
    assert_nothing_was_done_twice(before, commits(spec))
    assert_same(live(spec), undisturbed)


@pytest.mark.soak(quick=5, large=60)
def test_a_killed_worker_is_replaced_while_the_run_goes_on(
    tmp_path: Path, undisturbed: Undisturbed, seed: int
) -> None:
    spec = make_pipeline(tmp_path)
    with stock_of(spec):
        process = start(["run", str(spec), "--json"])
        worker = a_worker_of(process)
    time.sleep(0.6 * spread(seed) * undisturbed.seconds)
    before = commits(spec)
    with contextlib.suppress(psutil.NoSuchProcess):  # it was faster: then this is a calm run
        worker.kill()
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert json.loads(out)["computed"] == len(set(undisturbed.items.values()))
    assert_nothing_was_done_twice(before, commits(spec))
    assert_same(live(spec), undisturbed)


def test_interrupting_a_run_keeps_what_is_done_and_says_how_to_go_on(
    tmp_path: Path, undisturbed: Undisturbed
) -> None:
    spec = make_pipeline(tmp_path)
    with stock_of(spec) as stock:
        process = start(["run", str(spec)])
        a_worker_of(process)
        stock.hand_out_all_but_one()
        wait_for_a_commit(spec)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "resume" in err
    assert "Traceback" not in err
    assert not workers_on(spec)
    before = commits(spec)
    assert before
    run_to_the_end(spec, command="resume")
    assert_nothing_was_done_twice(before, commits(spec))
    assert_same(live(spec), undisturbed)


def spread(seed: int) -> float:
    """A share of a run: seeds of any number lie evenly over all of it, by the golden ratio."""
    return (seed + 0.5) * 0.6180339887 % 1.0


def make_pipeline(root: Path) -> Path:
    """Items of which every tenth has the text of another; the same in every call."""
    tiny_text_package(root / "model")
    words = random.Random(7)
    titles = [" ".join(words.choices(["red", "blue", "old", "warm", "tiny"], k=9)) for _ in range(ITEMS)]
    titles[::10] = [titles[1]] * len(titles[::10])
    ids = [f"s{n}" for n in range(ITEMS)]
    table = pa.table({"sku": ids, "title": titles, "category": ["things"] * ITEMS})
    pq.write_table(table, root / "items.parquet")
    (root / "pipeline.yaml").write_text(SPEC)
    return root / "pipeline.yaml"


def run_to_the_end(spec: Path, command: str = "run") -> None:
    done = start([command, str(spec), "--json"])
    out, err = done.communicate(timeout=PATIENCE_S)
    assert done.returncode == 0, err
    assert json.loads(out)["total"] == ITEMS


def live(spec: Path) -> Release:
    release = Pipeline.from_file(spec).live()
    assert release is not None
    return release


def vectors_of(release: Release) -> dict[str, bytes]:
    ids, vectors = release.to_numpy()
    return {str(identifier): vector.tobytes() for identifier, vector in zip(ids, vectors, strict=True)}


def assert_same(release: Release, undisturbed: Undisturbed) -> None:
    assert vectors_of(release) == undisturbed.items
    assert release.content.content_digest == undisturbed.digest
    content = release.content
    assert content.embedded + content.reused == ITEMS
    named = [*(entry for segment in content.segments for entry in segment.parts), *content.model]
    named += [*content.items, *content.goldens, content.quarantine]
    files = {
        str(path.relative_to(release.folder)) for path in release.folder.glob("*/**/*") if path.is_file()
    }
    assert files == {entry.path for entry in named}, "files of attempts that lost were left"
