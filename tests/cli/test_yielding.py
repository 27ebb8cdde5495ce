"""`drain`, and what `worker` is told of GPUs: loops leave after their batch, and the run is gone on with."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.cli.terminal import Terminal, command_line, run_alone
from tests.cli.test_pipelines import wait_for_commits
from tests.support.mill import Mill, items


def test_a_drained_run_ends_with_75_stays_open_and_is_gone_on_with(
    mill: Mill, spec: Path, embedmill: Terminal
) -> None:
    mill.settings["work"] = {"shard_rows": 16, "workers": 2}
    run = mill.planned(items(1600))
    process = subprocess.Popen(
        command_line("run", spec), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    commits = wait_for_commits(mill.root, process)
    assert embedmill("drain", spec).code == 0
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert "all workers stopped" in err
    assert f"the run is drained (`embedmill resume {spec}` goes on)" in err
    kept = {file: file.read_bytes() for file in commits.iterdir()}
    assert 0 < len(kept) < len(run.plan.shards)
    assert embedmill.json("resume", spec)["embedded"] == 1600
    assert all(file.read_bytes() == content for file, content in kept.items())


def test_no_worker_joins_a_drained_run_until_that_is_undone(
    mill: Mill, spec: Path, embedmill: Terminal
) -> None:
    planned = mill.planned(items(8))
    told = embedmill.json("drain", spec)
    assert (told["schema"], told["run"], told["active"]) == ("drain/1", planned.plan.run, True)
    worker = ("worker", "--run", planned.url, "--name", "w")
    refused = run_alone(*worker)
    assert (refused.code, refused.out) == (75, "")
    assert "the run is drained" in refused.err
    stands = embedmill("status", spec).out
    assert f"{planned.plan.run} is drained: no worker works on it until" in stands
    assert "Help with it" not in stands
    assert embedmill.json("drain", spec, "--undo")["active"] is False
    assert "is drained" not in embedmill("status", spec).out
    assert run_alone(*worker).code == 0


def test_a_drained_run_is_told_as_such_where_it_is_not_gone_on_with(
    mill: Mill, spec: Path, embedmill: Terminal
) -> None:
    planned = mill.planned(items(8))
    embedmill("drain", spec)
    mill.write(items(9))
    stands = next(line for line in embedmill("status", spec).out.splitlines() if "does not go on" in line)
    assert "the catalog changed since; it is drained: no worker works on it" in stands
    (mill.root / "items.parquet").unlink()
    stands = embedmill("status", spec).out
    assert f"whether `run` goes on with {planned.plan.run} cannot be told" in stands
    assert "it is drained: no worker works on it" in stands


def test_drain_says_how_to_go_on_and_needs_an_open_run(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.planned(items(8))
    said = embedmill("drain", spec)
    assert said.code == 0
    assert f"embedmill resume {spec}" in said.out.replace("\n", " ")
    assert "none joins" in said.out
    assert "workers may join" in embedmill("drain", spec, "--undo").out
    embedmill("cancel", spec)
    assert "no open run" in embedmill("drain", spec).err


def test_a_gpu_that_is_watched_is_named_by_its_uuid(mill: Mill) -> None:
    planned = mill.planned(items(8))
    said = run_alone("worker", "--run", planned.url, "--name", "w", "--watch-gpu", "0")
    assert said.code == 2
    assert said.err.startswith("error: --watch-gpu 0: is no UUID of a GPU (`nvidia-smi -L` shows them)")


@pytest.mark.parametrize("pair", ["host", "pod=x", "=x"])
def test_where_a_loop_is_has_three_names(mill: Mill, pair: str) -> None:
    planned = mill.planned(items(8))
    said = run_alone("worker", "--run", planned.url, "--name", "w", "--where", pair)
    assert (said.code, said.out) == (2, "")
    assert "KEY is one of host, gpu, image" in said.err
