"""Three pipelines on two devices: shares follow priorities, and failing ones leave them untouched."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cli.terminal import run_alone
from tests.support.mill import Mill, items

from embedmill.pipeline import Pipeline

ROWS = {"eager": 40000, "calm": 9000, "quiet": 9000}
"""The eager one has so much to do that it wants devices for as long as the others. All have so much that it
weighs little how they begin: few plan at a time, and who comes later waits for the end of a turn."""
PRIORITIES = {"eager": 20, "calm": 10, "quiet": 10}


def pipeline(root: Path, mill: Mill, name: str, rows: int, **settings: Any) -> Path:
    """A pipeline in a folder of its own; all have one store."""
    folder = root / name
    folder.mkdir(parents=True)
    mill.write({**row, "title": f"{name} {row['title']}" + " again" * 20} for row in items(rows))
    shutil.move(mill.root / "items.parquet", folder / "items.parquet")
    work = {"shard_rows": 30, "batch_tokens": 64}
    spec = mill.spec | {"name": name, "store": "../mill", "model": str(mill.model), "work": work} | settings
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(spec))
    return folder / "pipeline.yaml"


def shares_of(report: dict[str, Any]) -> dict[str, tuple[float, float]]:
    return {each["pipeline"]: (each["share"], each["due_share"]) for each in report["pipelines"]}


def test_shares_follow_priorities_and_failing_pipelines_leave_the_others_untouched(
    mill: Mill, tmp_path: Path
) -> None:
    root = tmp_path / "all"
    files = {name: pipeline(root, mill, name, rows, priority=PRIORITIES[name]) for name, rows in ROWS.items()}
    for file in files.values():
        Pipeline.from_file(file).plan()  # so that all begin to want devices at once
    pipeline(root, mill, "broken", 20, model="nowhere", priority=100)
    wrong = pipeline(root, mill, "wrong", 20)
    wrong.write_text("nme: wrong\n")
    said = run_alone("run", "--all", root, "--devices", "2", "--turn", "1", "--json", "--quiet")
    report = json.loads(said.out)
    outcomes = {each["pipeline"]: (each["outcome"], each["exit_code"]) for each in report["pipelines"]}
    assert said.code == report["exit_code"] == 1
    assert {outcomes[name] for name in ROWS} == {("published", 0)}
    assert outcomes["broken"] == ("failed", 1)
    assert outcomes[str(wrong)] == ("failed", 2)
    assert {each["pipeline"]: each["computed"] for each in report["pipelines"] if each["computed"]} == ROWS

    shares = {name: shares_of(report)[name] for name in ROWS}
    print({name: f"{share:.2f} of the devices, due {due:.2f}" for name, (share, due) in shares.items()})  # noqa: T201
    assert all(abs(share - due) < 0.2 for share, due in shares.values())  # they end in the middle of a turn
    assert shares["eager"][1] > max(shares["calm"][1], shares["quiet"][1])


@pytest.mark.parametrize("name", ["eager"])
def test_a_release_is_the_one_that_a_run_alone_makes(mill: Mill, tmp_path: Path, name: str) -> None:
    digests = []
    for root in (tmp_path / "alone", tmp_path / "together"):
        file = pipeline(root, mill, name, 400)
        pipeline(root, mill, "calm", 400)
        command = ("run", file) if root.name == "alone" else ("run", "--all", root, "--turn", "1")
        assert run_alone(*command, "--quiet").code == 0
        live = Pipeline.from_file(file).live()
        assert live is not None
        digests.append(live.content.content_digest)
    assert digests[0] == digests[1]
