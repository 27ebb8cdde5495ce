"""What a controller that dies leaves, on every engine: the next one finishes the run, and does nothing twice.

The process that drives the run kills itself, as `kill -9` does, exactly where a stage has done something that
the next one needs; what runs elsewhere goes on, or ends by itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.support.killing import assert_nothing_was_done_twice, commits
from tests.support.mill import Mill, items
from tests.support.patience import PATIENCE_S

ROWS = items(120)
WORK = {"shard_rows": 6, "look_again_s": 1.0}


class ControllerSuite:
    """A class for an engine inherits it, and has the fixture `settings`.

    Engines have no part in what follows `embedded`: one of them is enough for all of that.
    """

    stages: tuple[str, ...] = ("planned", "embedding", "embedded", "sealed")

    @pytest.fixture
    def settings(self) -> Mapping[str, Any]:
        """What pipeline.yaml says of the engine."""
        raise NotImplementedError

    def test_a_controller_that_is_killed_at_every_stage_is_gone_on_with_by_the_next(
        self, mill: Mill, settings: Mapping[str, Any], tmp_path: Path
    ) -> None:
        mill.settings |= {**settings, "work": WORK}
        mill.write(ROWS)
        mill.open()
        spec, before = mill.root / "pipeline.yaml", dict[str, str]()
        for stage in self.stages:
            killed = subprocess.run(
                [sys.executable, "-m", "tests.support.dying", str(spec), stage],
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
            )
            assert killed.returncode == -9, (stage, killed.stderr)
            now = commits(spec)
            assert before.items() <= now.items(), f"{stage}: a committed shard was computed again"
            before = now
        done = subprocess.run(
            [sys.executable, "-m", "embedmill", "run", str(spec), "--json"],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert (report["resumed"], report["computed"]) == (True, len(ROWS))
        assert_nothing_was_done_twice(before, commits(spec))
        assert mill.live().content.content_digest == digest_alone(tmp_path / "alone", mill.model)


def digest_alone(folder: Path, model: Path) -> str:
    """Of the release that a run in one process makes, which nobody kills."""
    folder.mkdir()
    mill = Mill(folder, model, settings={"work": {"shard_rows": WORK["shard_rows"]}})
    mill.run(ROWS)
    return mill.live().content.content_digest
