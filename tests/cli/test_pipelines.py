"""`plan`, `run`, `resume`, `status`: what they do, print and return."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.cli.terminal import Terminal, command_line, run_alone, run_on_a_terminal
from tests.spec.calibration_example import calibration
from tests.support.mill import POISON, Mill, items, poisonable_package

from embedmill.release.layout import TERMINAL
from embedmill.spec import document, documents

PLAN_KEYS = {
    *("schema", "run", "base", "resumed", "outlived", "items", "excluded", "compute", "reused", "shards"),
    *("estimate", "calibration", "why", "epoch", "numerics"),
}
ITEM_KEYS = {
    *("total", "new", "changed", "unchanged", "deleted", "duplicates", "quarantined", "empty", "kept"),
}
RUN_KEYS = {
    *("schema", "release", "number", "url", "total", "computed", "embedded", "reused", "empty"),
    *("quarantined", "kept", "compacted", "resumed", "seconds", "epoch", "numerics", "shares"),
}


def test_plan_says_in_json_what_a_first_run_would_do(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.settings["work"] = {"shard_rows": 16}
    mill.write(items(40))
    mill.open()
    report = embedmill.json("plan", spec)
    assert set(report) == PLAN_KEYS
    assert report["schema"] == "plan-report/1"
    assert report["items"] == dict.fromkeys(ITEM_KEYS, 0) | {"total": 40, "new": 40}
    assert (report["compute"], report["reused"], report["base"]) == (40, 0, None)
    assert report["estimate"]["seconds"] > 0
    assert report["estimate"]["source"].startswith("measured on ")
    assert report["shards"] > 1


def test_plan_ends_with_the_command_that_carries_it_out(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.planned(items(40))
    said = embedmill("plan", spec)
    assert said.code == 0
    assert said.out.splitlines()[-1] == f"Carry it out:  embedmill run {spec}"
    assert "40 vectors in 1 shard" in said.out
    assert "nothing was published yet" in said.out


def test_plan_counts_what_a_changed_catalog_needs(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    rows = items(40)
    mill.run(rows)
    rows[3]["title"] = "something else"
    mill.write([*rows[:7], *rows[8:], {**rows[0], "sku": "twin"}, {**rows[0], "sku": "new", "title": "new"}])
    report = embedmill.json("plan", spec)
    expected = {"total": 41, "new": 2, "changed": 1, "unchanged": 38, "deleted": 1, "duplicates": 1}
    assert report["items"] == dict.fromkeys(ITEM_KEYS, 0) | expected
    assert (report["compute"], report["reused"]) == (2, 38)
    assert report["base"]["number"] == 1


def test_run_starts_workers_and_publishes(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    planned = mill.planned(items(40))
    report = embedmill.json("run", spec)
    assert set(report) == RUN_KEYS
    assert report["release"] == planned.plan.run
    assert report["resumed"] is True
    assert report["url"] == str(mill.live().folder)
    assert (report["number"], report["computed"], report["embedded"], report["quarantined"]) == (1, 40, 40, 0)


def test_a_second_run_computes_only_what_changed(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    rows = items(40)
    mill.run(rows)
    rows[5]["title"] = "a new name"
    mill.worked(rows)
    report = embedmill.json("run", spec)
    assert (report["computed"], report["embedded"], report["reused"]) == (1, 1, 39)


def test_run_tells_people_where_the_release_lies(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.worked(items(40))
    said = embedmill("run", spec)
    assert said.code == 0
    assert str(mill.live().folder) in said.out
    assert "(number 1)" in said.out


def test_quarantined_items_make_exit_code_4_and_can_be_listed(
    mill: Mill, spec: Path, embedmill: Terminal
) -> None:
    mill.worked([*items(40), items(1)[0]])
    said = embedmill("run", spec)
    assert said.code == 4
    listing = f"embedmill release show {spec} --quarantine"
    assert f"2 items are quarantined: {listing}" in said.err
    assert embedmill(*listing.split()[1:]).out.count("duplicate-id") == 2


def test_a_failed_gate_stops_the_run_and_can_be_accepted(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.settings["gates"] = {"churn": 0.1}
    mill.run(items(40))
    before = embedmill.json("release", "ls", spec)
    mill.worked(items(20))
    said = embedmill("run", spec)
    assert said.code == 3
    assert "churn: 20 of 40 live items" in said.err
    assert "--accept churn" in said.err
    assert embedmill.json("release", "ls", spec) == before
    assert embedmill.json("run", spec, "--accept", "churn")["number"] == 2
    gates = embedmill.json("release", "show", spec)["gates"]["verdicts"]
    assert [gate["gate"] for gate in gates if gate["accepted"]] == ["churn"]


def test_a_gate_that_guards_the_vectors_cannot_be_accepted(
    mill: Mill, spec: Path, embedmill: Terminal
) -> None:
    mill.worked(items(8))
    said = embedmill("run", spec, "--accept", "finite")
    assert said.code == 2
    assert "allowed are churn, empty, quarantine, relevance" in said.err


@pytest.mark.parametrize("command", ["run", "run --all", "resume", "check"])
def test_a_mistyped_gate_is_refused_before_anything_is_done(
    mill: Mill, spec: Path, embedmill: Terminal, command: str
) -> None:
    mill.write(items(8))
    mill.open()
    said = embedmill(*command.split(), spec, "--accept", "chrun", "--accept", "empty")
    assert (said.code, said.out) == (2, "")
    expected = "--accept chrun: allowed are churn, empty, quarantine, relevance (did you mean churn?)"
    assert said.err == f"error: {expected}\n"
    assert not (mill.root / "mill").exists()


def test_resume_without_an_open_run_says_what_to_do(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.run(items(8))
    said = embedmill("resume", spec)
    assert said.code == 1
    assert said.err.endswith(f"no open run (`embedmill run {spec}` starts one)\n")


def test_resume_finishes_a_run_as_it_was_planned(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    planned = mill.worked(items(40))
    mill.write(items(3))
    report = embedmill.json("resume", spec)
    assert (report["release"], report["total"]) == (planned.plan.run, 40)


def test_an_open_run_that_is_not_gone_on_with_is_named_and_its_work_taken_over(
    mill: Mill, spec: Path, embedmill: Terminal
) -> None:
    left = mill.worked(items(40)).plan.run
    mill.write(items(41))
    said = embedmill("plan", spec)
    assert f"run {left} is not gone on with: the catalog changed since" in said.err
    report = embedmill.json("run", spec)
    assert (report["computed"], report["reused"]) == (1, 40)


def test_gates_and_the_number_of_workers_may_change_while_a_run_is_open(
    mill: Mill, spec: Path, embedmill: Terminal
) -> None:
    mill.run(items(20))
    mill.settings["gates"] = {"churn": 0.1}
    stopped = mill.worked(items(10)).plan.run
    assert embedmill("run", spec).code == 3
    mill.settings |= {"gates": {"churn": 0.6}, "work": {"workers": 1, "attempts": 9}}
    mill.open()
    report = embedmill.json("run", spec)
    assert (report["release"], report["resumed"]) == (stopped, True)


def test_a_cancelled_run_is_closed_and_the_next_takes_over_what_it_has_finished(
    mill: Mill, spec: Path, embedmill: Terminal
) -> None:
    run = mill.worked(items(10)).plan.run
    closed = embedmill.json("cancel", spec)
    assert (closed["schema"], closed["run"], closed["outcome"]) == ("terminal/1", run, "abandon")
    assert embedmill("cancel", spec).err.endswith(f"no open run (`embedmill run {spec}` starts one)\n")
    report = embedmill.json("run", spec)
    assert (report["resumed"], report["computed"], report["reused"]) == (False, 0, 10)


def test_a_run_that_is_being_published_cannot_be_cancelled(
    mill: Mill, spec: Path, embedmill: Terminal
) -> None:
    run = mill.checked(items(3))
    closing = documents.Terminal(
        run=run.plan.run, outcome="publish", number=1, why="gates passed", created=document.now()
    )
    run.home.create(run.home.run_key(run.plan.run, TERMINAL), closing)
    said = embedmill("cancel", spec)
    assert said.code == 1
    assert "too late to cancel" in said.err


def test_status_says_what_to_do_next(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.open()
    fresh = embedmill.json("status", spec)
    assert (fresh["schema"], fresh["live"], fresh["open_runs"]) == ("status/1", None, [])
    assert fresh["next"].startswith(f"embedmill plan {spec}")
    planned = mill.planned(items(40))
    opened = embedmill.json("status", spec)
    (run,) = opened["open_runs"]
    assert (run["run"], run["shards_done"], run["vectors"]) == (planned.plan.run, 0, 40)
    assert run["url"] == planned.url
    assert (run["goes_on"], run["why"]) == (True, "")
    assert opened["next"] == f"embedmill run {spec}  # finishes the open run"
    mill.run()
    done = embedmill.json("status", spec)
    assert (done["live"]["release"], done["open_runs"]) == (planned.plan.run, [])
    assert done["next"].startswith(f"embedmill run {spec}")


def test_status_says_which_open_run_is_gone_on_with_and_why_not_the_others(
    mill: Mill, spec: Path, embedmill: Terminal
) -> None:
    first = mill.planned(items(40)).plan.run
    mill.write(items(41))
    assert "the catalog changed since" in embedmill("status", spec).out
    opened = embedmill.json("status", spec)
    assert [(run["goes_on"], run["why"]) for run in opened["open_runs"]] == [
        (False, "the catalog changed since")
    ]
    assert opened["next"].startswith(f"embedmill run {spec}  # plans anew")
    second = mill.planned().plan.run
    states = {run["run"]: run["goes_on"] for run in embedmill.json("status", spec)["open_runs"]}
    assert states == {first: False, second: True}
    said = embedmill("status", spec).out
    assert f"`run` goes on with {second}" in said
    assert f"`run` does not go on with {first}: the catalog changed since" in said


@pytest.mark.parametrize("gone", ["catalog", "model"])
def test_status_says_that_it_cannot_tell_where_catalog_or_model_is_gone(
    mill: Mill, spec: Path, embedmill: Terminal, gone: str
) -> None:
    mill.planned(items(40))
    if gone == "catalog":
        (mill.root / "items.parquet").unlink()
    else:
        mill.model = mill.root / "nowhere"
        mill.open()
    (run,) = embedmill.json("status", spec)["open_runs"]
    assert run["goes_on"] is None
    assert ("items.parquet" if gone == "catalog" else "nowhere") in run["why"]
    said = embedmill("status", spec)
    assert f"whether `run` goes on with {run['run']} cannot be told: {run['why']}" in said.out
    assert f"Next:  embedmill resume {spec}" in said.out


def test_status_asks_for_no_help_where_no_shard_is_left(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.worked(items(40))
    said = embedmill("status", spec)
    assert "1 of 1" in said.out
    assert "embedmill worker" not in said.out


def test_status_for_people_shows_open_runs(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    planned = mill.planned(items(40))
    said = embedmill("status", spec)
    assert planned.plan.run in said.out
    assert "0 of 40" in said.out
    assert f"embedmill worker --run {planned.url} --name NAME\n" in said.out


def test_whoever_helps_with_a_run_is_told_the_threads_that_were_measured(
    mill: Mill, spec: Path, embedmill: Terminal
) -> None:
    plan = mill.planned(items(40)).plan
    chosen = calibration().chosen.model_copy(update={"threads": 2})
    found = plan.model_copy(update={"calibration": calibration().model_copy(update={"chosen": chosen})})
    (file,) = mill.root.glob(f"mill/**/{plan.run}/plan.json")
    file.unlink()
    file.write_bytes(found.to_bytes())
    assert "--name NAME --threads 2\n" in embedmill("status", spec).out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_keeps_finished_shards_and_says_how_to_go_on(
    mill: Mill, spec: Path, embedmill: Terminal, number: signal.Signals
) -> None:
    mill.settings["work"] = {"shard_rows": 16, "workers": 1}
    mill.planned(items(960))
    process = subprocess.Popen(
        command_line("run", spec), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    commits = wait_for_commits(mill.root, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    hint = f"error: stopped; finished shards are kept (`embedmill resume {spec}` goes on)"
    assert err.splitlines()[-1] == hint
    assert "Traceback" not in err
    kept = {file: file.read_bytes() for file in commits.iterdir()}
    assert embedmill.json("resume", spec)["embedded"] == 960
    assert all(file.read_bytes() == content for file, content in kept.items())


def wait_for_commits(root: Path, process: subprocess.Popen[str]) -> Path:
    """The folder of commit records, once there is one."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        for commits in root.glob("mill/*/runs/*/commits"):
            if any(commits.iterdir()):
                return commits
        time.sleep(0.02)
    pytest.fail(f"the run ended with {process.poll()} before it was stopped")


def test_progress_is_plain_lines_on_stderr_where_it_is_no_terminal(mill: Mill, spec: Path) -> None:
    mill.worked(items(40))
    said = run_alone("run", spec, "--json")
    assert said.code == 0
    assert said.json["embedded"] == 40
    assert "embed: 40 of 40 vectors, 0 reused, 0 failed" in said.err
    assert "\x1b" not in said.err
    assert "\r" not in said.err


def test_a_run_of_one_item_is_spoken_of_in_the_singular(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.planned(items(1))
    assert "  1 vector in 1 shard" in embedmill("plan", spec).out
    said = embedmill("run", spec)
    assert ": 1 item, 1 vector to compute, 0 reused" in said.err
    assert "embed: 1 of 1 vector, " in said.err
    assert "1 (1 vector computed)" in said.out


def test_quiet_says_nothing_on_stderr(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.worked(items(8))
    assert embedmill("run", spec, "--quiet").err == ""


def test_a_terminal_shows_bars_in_colour_unless_no_color_is_set(mill: Mill, spec: Path) -> None:
    mill.worked(items(40))
    coloured = run_on_a_terminal("run", spec)
    plain = run_on_a_terminal("run", spec, NO_COLOR="1")
    for written in (coloured, plain):
        assert "✓" in written
        assert "reused" in written
        assert "0 failed" in written
    assert "\x1b[32m" in coloured
    assert "\x1b[32m" not in plain


def test_progress_counts_rows_that_failed(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.model = poisonable_package(mill.root / "poisonable")
    rows = items(40)
    rows[7]["title"] = rows[9]["title"] = f"bad {POISON}"
    rows[11]["title"] = f"worse {POISON}"
    mill.worked(rows)
    said = embedmill("run", spec)
    assert said.code == 4
    assert "embed: 39 of 39 vectors, 0 reused, 2 failed" in said.err
    assert "3 items are quarantined" in said.err
