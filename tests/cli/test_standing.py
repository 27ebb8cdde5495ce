"""`status` beside a run that a gate stopped, or that nobody goes on with."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.terminal import Terminal
from tests.support.mill import Mill, items, reweighted

from embedmill.gates import OWN_ANEW
from embedmill.release.layout import Home
from embedmill.store import LocalPaths
from embedmill.types import STAGES
from embedmill.work.heartbeat import Heartbeat
from embedmill.work.leases import Leases


@pytest.mark.parametrize(
    ("gates", "model", "next_of"),
    [
        ({"churn": 0.1}, None, "run {} --accept churn"),
        ({"churn": 0.1, "quarantine": 0.0}, None, "check {} --quarantine"),
        ({}, np.zeros_like, "cancel {}"),
    ],
)
def test_status_after_a_gate_names_it_and_what_helps(
    mill: Mill, spec: Path, embedmill: Terminal, gates: dict[str, float], model: Any, next_of: str
) -> None:
    mill.run(items(40))
    mill.settings["gates"] = gates
    if model is not None:
        mill.model = reweighted(mill.root / "other", model)
    rows = items(20)
    mill.checked([*rows, rows[0]] if "quarantine" in gates else rows)
    said = embedmill("status", spec)
    names = {
        verdict["gate"]
        for verdict in embedmill.json("check", spec, code=3)["verdicts"]
        if not verdict["passed"]
    }
    assert names
    line = next(line for line in said.out.splitlines() if "which was stopped by" in line)
    assert all(name in line for name in names)
    assert f"Next:  embedmill {next_of.format(spec)}" in said.out
    assert "finishes the open run" not in said.out
    assert (OWN_ANEW in said.out) == next_of.startswith("cancel")


def test_status_asks_for_no_help_with_a_run_that_is_not_gone_on_with(
    mill: Mill, spec: Path, embedmill: Terminal
) -> None:
    planned = mill.planned(items(40))
    assert f"Help with it:  embedmill worker --run {planned.url}" in embedmill("status", spec).out
    mill.write(items(41))
    said = embedmill("status", spec).out
    assert "does not go on with" in said
    assert "Help with it" not in said


@pytest.mark.parametrize(
    ("gone", "trouble"),
    [
        (("MANIFEST.json",), "has no MANIFEST.json"),
        (("MANIFEST.json", "CONTENT.json"), "has no CONTENT.json"),
    ],
)
def test_status_tells_that_the_live_release_is_no_whole_one(
    mill: Mill, spec: Path, embedmill: Terminal, gone: tuple[str, ...], trouble: str
) -> None:
    mill.run(items(8))
    assert embedmill.json("status", spec)["trouble"] == ""
    folder = mill.live().folder
    for name in gone:
        (folder / name).unlink()
    said = embedmill("status", spec)
    assert f"(number 1): {trouble}" in said.out
    assert f"Next:  embedmill release ls {spec}  # shows others; put back a copy, or roll back" in said.out
    assert "embedmill run" not in said.out
    assert embedmill.json("status", spec)["trouble"] == trouble
    (stands,) = embedmill.json("status", "--all", spec)["pipelines"]
    assert stands["error"] == f"the live release: {trouble}"


def test_a_worker_that_shows_no_life_is_told_from_one_at_work(
    mill: Mill, spec: Path, embedmill: Terminal
) -> None:
    planned = mill.planned(items(40))
    home, run = planned.home, planned.plan.run
    lease = Leases(home, run, "w").claim(planned.plan.shards[0].name)
    assert lease is not None
    stages = {"stages": dict.fromkeys(STAGES, 1.0), "queued": {}, "bottleneck": "runtime"}
    with Heartbeat(home, run, "w", None, threaded=False, stages=lambda: stages) as heart:
        heart.hold(lease)
        heart.take(lease, rows=40)
        heart.advance(1)
    told, ahead_s = home.run_key(run, "events", "w.json"), -86400
    written(home, told, 600)
    written(home, lease.key, 86400)
    assert re.search(
        r"^w: its last sign of life was \d+ min .* ago", embedmill("status", spec).out, re.MULTILINE
    )
    (loop,) = embedmill.json("status", spec)["open_runs"][0]["loops"]
    assert 600 <= loop["silent_s"] < 86400, "the later one of its event and its lease counts"
    assert "if this machine's clock and the store's agree" in embedmill("status", spec).out
    for key in (told, lease.key):
        written(home, key, ahead_s)
        assert "sign of life" not in embedmill("status", spec).out
        written(home, key, 600)


def written(home: Home, key: str, ago_s: float) -> None:
    """As if an object had been written so long ago."""
    assert isinstance(home.store, LocalPaths)
    os.utime(home.store.path(key), (time.time() - ago_s,) * 2)
