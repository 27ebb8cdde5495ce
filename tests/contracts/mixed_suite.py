"""Several engines on one run: all of them have a part in it, and the release is that of one process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.support.mill import Mill, items

from embedmill.errors import ObjectMissing
from embedmill.pipeline import PlannedRun
from embedmill.spec.documents import Lease
from embedmill.work.leases import Leases

ROWS = items(600)
SHARD_ROWS = 4
PATIENCE_S = 120.0


class MixedRunSuite:
    """A class inherits it, and has the fixtures `settings` and `workers`."""

    @pytest.fixture
    def settings(self) -> Mapping[str, Any]:
        """What pipeline.yaml says of the engines."""
        raise NotImplementedError

    @pytest.fixture
    def workers(self) -> set[str]:
        """The names of all loops, by which each engine is known."""
        raise NotImplementedError

    def test_one_run_with_all_engines_at_once_is_one_release_with_the_digest_of_any_other(
        self, mill: Mill, settings: Mapping[str, Any], workers: set[str], tmp_path: Path
    ) -> None:
        mill.settings |= {**settings, "work": {"shard_rows": SHARD_ROWS, "workers": 1}}
        planned = mill.planned(ROWS)
        held = hold_everything(planned)
        command = [sys.executable, "-m", "embedmill", "run", str(mill.root / "pipeline.yaml"), "--json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            wait_until_all_work(planned, workers, held, process)
            for key in held:
                planned.home.store.delete(key)
            out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, err
        report = json.loads(out)
        shares = {share["worker"]: share["vectors"] for share in report["shares"]}
        print(shares)  # noqa: T201
        assert shares.keys() == workers
        assert all(shares.values())
        assert sum(shares.values()) == report["computed"] == len(ROWS)
        assert mill.live().content.content_digest == digest_alone(tmp_path / "alone", mill.model)
        assert mill.live().content.release == planned.plan.run


def hold_everything(run: PlannedRun) -> list[str]:
    """Take every shard for a loop of another machine: so that none is done before all are there."""
    keys = []
    for shard in run.plan.shards:
        held = Leases(run.home, run.plan.run, "elsewhere").claim(shard.name)
        assert held is not None
        keys.append(held.key)
        run.home.store.put(held.key, held.lease.model_copy(update={"host": "elsewhere"}).to_bytes())
    return keys


def wait_until_all_work(
    run: PlannedRun, workers: set[str], held: list[str], process: subprocess.Popen[str]
) -> None:
    """All loops have told of themselves; meanwhile leases beat."""
    missing, deadline_s, beaten_s = set(workers), time.monotonic() + PATIENCE_S, time.monotonic()
    while missing:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline_s, f"{missing} do not begin"
        missing = {
            each
            for each in missing
            if not run.home.exists(run.home.run_key(run.plan.run, "events", f"{each}.json"))
        }
        if time.monotonic() - beaten_s > 5:
            beaten_s = time.monotonic()
            beat(run, held)
        time.sleep(0.05)


def beat(run: PlannedRun, held: list[str]) -> None:
    for key in held:
        try:
            lease = run.home.read(Lease, key)
        except ObjectMissing:
            continue
        run.home.store.put(key, lease.model_copy(update={"beat": lease.beat + 1}).to_bytes())


def digest_alone(folder: Path, model: Path) -> str:
    folder.mkdir()
    mill = Mill(folder, model, settings={"work": {"shard_rows": SHARD_ROWS}})
    mill.run(ROWS)
    return mill.live().content.content_digest
