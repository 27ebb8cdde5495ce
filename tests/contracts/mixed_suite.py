"""Several engines on one run: all of them have a part in it, and the release is that of one process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.support.killing import end_of, start
from tests.support.mill import Mill, items
from tests.support.patience import PATIENCE_S
from tests.support.stock import Stock

ROWS = items(600)
SHARD_ROWS = 4


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
        with Stock(planned.home, planned.plan) as stock:
            process = start(["run", str(mill.root / "pipeline.yaml"), "--json"])
            stock.hand_out_until_done_by(*workers, unless=end_of(process))
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


def digest_alone(folder: Path, model: Path) -> str:
    folder.mkdir()
    mill = Mill(folder, model, settings={"work": {"shard_rows": SHARD_ROWS}})
    mill.run(ROWS)
    return mill.live().content.content_digest
