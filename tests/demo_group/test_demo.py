"""The demo, run for real: the real model on the real catalog."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.killing import (
    a_worker_of,
    assert_nothing_was_done_twice,
    commits,
    start,
    stock_of,
    wait_for_a_commit,
    wait_for_orphans,
)

from embedmill import Pipeline, Release

pytestmark = pytest.mark.timeout(4500)
DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo"
SMALL_SHARDS = {"EMBEDMILL_WORK__SHARD_ROWS": "256"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's folder after one `make demo`."""
    folder = tmp_path_factory.mktemp("demo")
    done = script("run_demo.py", "--folder", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_second_day_computes_what_changed_and_nothing_else(demo: Path) -> None:
    pipeline = Pipeline.from_file(demo / "pipeline.yaml")
    release = pipeline.live()
    assert release is not None
    content = release.content
    assert release.number == 2
    assert (
        0.003
        < (content.counts.new + content.counts.changed + content.counts.deleted) / content.counts.total
        < 0.02
    )
    assert content.computed == content.embedded == content.counts.new + content.counts.changed
    assert content.reused == content.counts.unchanged


def test_at_least_16_of_20_queries_written_beforehand_find_a_right_item_in_the_top_5(demo: Path) -> None:
    done = script("search_quality.py", str(demo / "pipeline.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"^(\d+) of 20$", done.stdout, re.MULTILINE)
    assert found
    assert int(found[1]) >= 16


def test_a_run_killed_in_the_middle_is_finished_with_the_same_digest(
    demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SMALL_SHARDS.items():
        monkeypatch.setenv(name, value)
    calm, killed = (another_store(demo, name) for name in ("calm", "killed"))
    assert start(["run", str(calm), "--json"]).wait(900) == 0
    with stock_of(killed, elsewhere=True) as stock:
        process = start(["run", str(killed), "--json"])
        a_worker_of(process).kill()
        stock.hand_out_all_but_one()
        wait_for_a_commit(killed)
        process.kill()
        process.wait()
        wait_for_orphans(killed)
    before = commits(killed)
    out, err = start(["run", str(killed), "--json"]).communicate(timeout=900)
    assert json.loads(out)["resumed"], err
    assert 0 < len(before) < len(commits(killed))
    assert_nothing_was_done_twice(before, commits(killed))
    digests = {live.content.content_digest for live in map(live_of, (calm, killed))}
    assert len(digests) == 1


def another_store(demo: Path, name: str) -> Path:
    """The demo's pipeline with a store of its own."""
    spec = demo / f"{name}.yaml"
    shutil.copy(demo / "pipeline.yaml", spec)
    spec.write_text(re.sub(r"^store: .*$", f"store: ./{name}", spec.read_text(), flags=re.MULTILINE))
    return spec


def live_of(spec: Path) -> Release:
    release = Pipeline.from_file(spec).live()
    assert release is not None
    return release


def script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(DEMO / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=1800)
