"""`run --all`, `status --all` and `report`: what they print, and which exit codes they have."""

from __future__ import annotations

import html.parser
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from tests.cli.terminal import Terminal, command_line
from tests.support.mill import Mill, items

from embedmill.cli.several import outcome_row
from embedmill.platform.together import WORST_FIRST
from embedmill.release.admin import rollback
from embedmill.release.log import read_history
from embedmill.spec.platform import PipelineOutcome


def test_one_pipeline_or_all_has_to_be_given(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.open()
    for command in ("run", "status"):
        assert embedmill(command).code == 2
        assert "give one PIPELINE.yaml, or --all DIR" in embedmill(command, spec, "--all", spec.parent).err


def test_a_worked_pipeline_is_published_with_a_table_and_a_line(
    mill: Mill, spec: Path, embedmill: Terminal
) -> None:
    mill.settings["deadline"] = "06:00"
    mill.worked(items(20))
    said = embedmill("run", "--all", spec.parent)
    assert (said.code, said.err) == (0, "test: published\n")
    assert "published" in said.out
    assert "(number 1)" in said.out


def test_the_table_tells_nothing_of_a_share_from_nothing_to_share() -> None:
    """A pipeline that got no device while others waited is due one; a spec that is wrong has no priority."""
    had_none = PipelineOutcome(
        pipeline="test",
        file="pipeline.yaml",
        priority=10,
        outcome="published",
        exit_code=0,
        message="",
        release=None,
        computed=0,
        devices="local",
        device_s=0.0,
        share=0.0,
        due_share=0.25,
        seconds=1.0,
        deadline=None,
        late=False,
    )
    assert outcome_row(had_none, "test")[5:7] == ("0%", "25%")
    nobody_waited = had_none.model_copy(update={"priority": 0, "due_share": 0.0})
    cells = outcome_row(nobody_waited, "test")
    assert (cells[1], *cells[5:7]) == ("-", "-", "-")


@pytest.fixture
def copied(mill: Mill, spec: Path) -> Path:
    """A copy of the spec with its name and store, beside a worked pipeline of another name."""
    mill.settings["store"] = str(mill.root / "mill")
    mill.run(items(20))
    copy = mill.root / "copy" / "pipeline.yaml"
    copy.parent.mkdir()
    copy.write_text(spec.read_text())
    other = Mill(mill.root / "other", mill.model, settings={"name": "other"})
    other.root.mkdir()
    other.worked(items(20))
    return copy


def test_a_copied_spec_with_one_name_and_one_store_is_not_run_and_the_others_are(
    mill: Mill, spec: Path, copied: Path, embedmill: Terminal
) -> None:
    report = embedmill.json("run", "--all", mill.root, code=2)
    outcomes = {Path(each["file"]): each for each in report["pipelines"]}
    assert outcomes[mill.root / "other" / "pipeline.yaml"]["outcome"] == "published"
    for file in (spec, copied):
        assert (outcomes[file]["outcome"], outcomes[file]["exit_code"]) == ("failed", 2)
        assert f"{spec} and {copied}: both are pipeline 'test'" in outcomes[file]["message"]
    assert len(read_history(mill.home).entries) == 1


def test_status_shows_all_and_says_which_specs_are_one_pipeline(
    mill: Mill, spec: Path, copied: Path, embedmill: Terminal
) -> None:
    shown = embedmill.json("status", "--all", mill.root)["pipelines"]
    standings = {Path(each["file"]): each for each in shown}
    for file in (spec, copied):
        assert standings[file]["live"]["number"] == 1
        assert f"{spec} and {copied}: both are pipeline 'test'" in standings[file]["error"]
    assert standings[mill.root / "other" / "pipeline.yaml"]["error"] == ""
    said = embedmill("status", "--all", mill.root)
    assert said.code == 0
    assert f"test ({spec})" in said.out
    assert f"test ({copied})" in said.out


def test_tables_tell_equal_names_of_two_stores_apart(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.worked(items(20))
    copy = mill.root / "copy" / "pipeline.yaml"
    copy.parent.mkdir()
    copy.write_text(yaml.safe_dump(mill.spec | {"catalog": {"source": "nowhere.parquet", "id": "sku"}}))
    for said in (embedmill("run", "--all", mill.root), embedmill("status", "--all", mill.root)):
        assert f"test ({spec})" in said.out
        assert f"test ({copy})" in said.out


def test_quarantine_and_gates_have_their_exit_codes(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.worked([*items(20), items(1)[0]])
    said = embedmill("run", "--all", spec)
    assert said.code == 4
    assert f"published; 2 items are quarantined (`embedmill release show {spec} --quarantine`" in said.out
    assert "test: quarantined: published; 2 items" in said.err
    mill.settings["gates"] = {"churn": 0.1}
    mill.worked(items(5))
    report = embedmill.json("run", "--all", spec, code=3)
    (outcome,) = report["pipelines"]
    assert (outcome["outcome"], outcome["exit_code"], report["exit_code"]) == ("not published", 3, 3)
    assert "churn" in outcome["message"]
    assert embedmill("run", "--all", spec, "--accept", "churn").code == 0


def test_the_worst_exit_code_is_a_total_order_with_success_last() -> None:
    assert WORST_FIRST[-1] == 0
    assert set(WORST_FIRST) == {0, 1, 2, 3, 4, 75, 130}


def test_ctrl_c_stops_all_runs_and_leaves_none_behind(mill: Mill, spec: Path, tmp_path: Path) -> None:
    mill.settings |= {"store": str(mill.root / "mill"), "work": {"shard_rows": 1}}
    mill.planned(items(3000))
    process = subprocess.Popen(
        command_line("run", "--all", spec, "--engine", "local", "--accept", "churn"),
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    commits = mill.root / "mill" / "test" / "runs"
    deadline = time.monotonic() + 120
    while not list(commits.glob("*/commits/*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "stopped; published releases and finished shards are kept" in said
    assert f"`embedmill run --all={spec} --engine=local --accept=churn` goes on" in said
    assert children
    assert not [child for child in children if Path(f"/proc/{child}").exists()]


def test_status_tells_how_fresh_each_pipeline_is(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.settings["deadline"] = "06:00"
    mill.run(items(20))
    mill.run(items(21))
    mill.settings["gates"] = {"churn": 0.1}
    mill.checked(items(5))
    other = mill.root / "other" / "pipeline.yaml"
    other.parent.mkdir()
    other.write_text("nme: x\n")
    good, bad = embedmill.json("status", "--all", mill.root)["pipelines"]
    assert [run["outcome"] for run in good["runs"]] == ["not published", "published", "published"]
    assert "churn" in good["runs"][0]["why"]
    assert (good["live"]["number"], good["late"], good["hold"]) == (2, False, False)
    assert 0 <= good["age_s"] < 600
    assert good["due"][11:16] == "06:00"
    assert "nme" in bad["error"]
    said = embedmill("status", "--all", mill.root)
    assert (said.code, said.out.count("\n")) == (0, 4)


def test_status_tells_of_runs_that_were_given_up_and_of_holds(
    mill: Mill, spec: Path, embedmill: Terminal
) -> None:
    mill.settings["deadline"] = "06:00"
    mill.planned(items(20))
    (never,) = embedmill.json("status", "--all", spec)["pipelines"]
    assert (never["late"], never["age_s"], never["runs"][0]["outcome"]) == (True, None, "open")
    mill.open().cancel()
    mill.run(items(20))
    mill.run(items(21))
    rollback(mill.home, "1")
    (standing,) = embedmill.json("status", "--all", spec)["pipelines"]
    assert [run["outcome"] for run in standing["runs"]] == ["published", "published", "given up"]
    assert standing["hold"] is True
    assert "on hold" in embedmill("status", "--all", spec).out


def test_report_says_what_each_worker_did(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.settings["work"] = {"shard_rows": 10}
    planned = mill.worked(items(100))
    report = embedmill.json("report", spec)
    (worker,) = report["workers"]
    shards = len(planned.plan.shards)
    assert (report["run"], report["shards_planned"], len(report["shards"])) == (
        planned.plan.run,
        shards,
        shards,
    )
    assert (report["rows"], report["vectors"], worker["rows"], worker["share"]) == (100, 100, 100, 1.0)
    assert (worker["worker"], worker["starts"], worker["yields"], worker["retries"]) == ("here", 1, 0, 0)
    said = embedmill("report", spec, "--run", planned.plan.run)
    assert f"{shards} of {shards} committed" in said.out
    assert "100.0%" in said.out


def test_a_run_without_work_has_an_empty_report_and_a_pipeline_without_runs_none(
    mill: Mill, spec: Path, embedmill: Terminal
) -> None:
    mill.open()
    assert "there was no run yet" in embedmill("report", spec).err
    mill.planned(items(20))
    assert embedmill.json("report", spec)["workers"] == []
    page = mill.root / "work.html"
    assert embedmill("report", spec, "--html", page).code == 0
    assert "no shard is committed yet" in page.read_text()


def test_a_report_after_a_collection_does_not_say_that_there_was_no_run(
    mill: Mill, spec: Path, embedmill: Terminal
) -> None:
    mill.run(items(20))
    for folder in (mill.root / "mill" / "test" / "runs").iterdir():
        (folder / "plan.json").unlink()
    said = embedmill("report", spec)
    assert said.code == 1
    assert "there was no run yet" not in said.err
    page = Path(said.err.partition("(")[2].partition(" shows")[0])
    assert page == mill.live().folder / "report.html"
    assert page.is_file()


class Tags(html.parser.HTMLParser):
    """Counts the tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)


@pytest.mark.parametrize("place", ["report", "release"])
def test_the_page_has_a_bar_for_each_shard_and_no_scripts(
    mill: Mill, spec: Path, embedmill: Terminal, place: str
) -> None:
    mill.settings["work"] = {"shard_rows": 10}
    planned = mill.worked(items(100))
    if place == "report":
        page = mill.root / "work.html"
        embedmill("report", spec, "--html", page)
    else:
        planned.run()
        page = mill.live().folder / "report.html"
    tags = Tags(page.read_text()).tags
    assert tags.count("rect") == len(planned.plan.shards)
    assert tags.count("svg") == 1
    assert "script" not in tags
    assert "http" not in page.read_text()


def test_the_settings_of_several_pipelines_are_checked(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.open()
    for wrong in ({"priority": 0}, {"deadline": "25:00"}, {"deadline": 360}):
        spec.write_text(yaml.safe_dump(mill.spec | wrong))
        assert embedmill("config", "show", spec).code == 2
