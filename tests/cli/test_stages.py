"""`worker`, `index`, `check`, `publish`: the stages one by one, as a scheduler calls them."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from tests.cli.terminal import Terminal, command_line, run_alone
from tests.cli.test_pipelines import wait_for_commits
from tests.support.mill import Mill, items


def test_stages_one_by_one_publish_and_may_each_be_repeated(
    mill: Mill, spec: Path, embedmill: Terminal
) -> None:
    mill.write(items(40))
    mill.open()
    run = embedmill.json("plan", spec)["run"]
    url = f"{mill.home.url}/runs/{run}"
    first = run_alone("worker", "--run", url, "--name", "w1", "--json")
    assert first.code == 0, first.err
    assert (first.json["schema"], first.json["vectors"], first.json["rejected"]) == ("work/1", 40, 0)
    assert run_alone("worker", "--run", url, "--name", "w2", "--json").json["vectors"] == 0
    contents = [embedmill.json("index", spec, "--run", run) for _ in range(2)]
    assert contents[0] == contents[1]
    assert (contents[0]["schema"], contents[0]["embedded"]) == ("content/1", 40)
    assert all(embedmill.json("check", spec, "--run", run)["schema"] == "gates/1" for _ in range(2))
    entries = [embedmill.json("publish", spec, "--run", run) for _ in range(2)]
    assert entries[0] == entries[1]
    assert (entries[0]["schema"], entries[0]["release"]) == ("log/1", run)
    assert embedmill.json("release", "ls", spec)[0]["live"] is True


def test_stages_take_the_open_run_where_none_is_named(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    planned = mill.worked(items(8))
    for stage in ("index", "check", "publish"):
        said = embedmill(stage, spec)
        assert said.code == 0, said
    assert mill.live().name == planned.plan.run


def test_check_shows_every_verdict_and_fails_with_3(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.settings["gates"] = {"churn": 0.1}
    mill.run(items(40))
    mill.indexed(items(30))
    said = embedmill("check", spec)
    assert said.code == 3
    verdicts = {line.split()[0]: line.split()[1] for line in said.out.splitlines()[2:]}
    assert verdicts.pop("churn") == "FAIL"
    assert set(verdicts.values()) == {"pass"}
    assert {"accounting", "finite", "norms"} < set(verdicts)
    refused = embedmill("publish", spec)
    assert refused.code == 3
    assert "churn: 10 of 40" in refused.err
    accepted = embedmill("check", spec, "--accept", "churn")
    assert accepted.code == 0
    assert "accepted" in accepted.out


@pytest.mark.parametrize(
    ("stage", "code", "hint"),
    [
        ("index", 75, "1 of 1 shard is not done (`embedmill resume FILE` goes on)"),
        ("check", 1, "there is no candidate yet (`embedmill index FILE` makes it)"),
        ("publish", 1, "there is no candidate yet (`embedmill index FILE` makes it)"),
    ],
)
def test_a_stage_that_comes_too_early_says_which_one_is_missing(
    mill: Mill, spec: Path, embedmill: Terminal, stage: str, code: int, hint: str
) -> None:
    mill.planned(items(8))
    said = embedmill(stage, spec)
    assert said.code == code
    assert said.err.endswith(f"{hint.replace('FILE', str(spec))}\n")


def test_an_unchecked_candidate_is_not_published(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.indexed(items(8))
    said = embedmill("publish", spec)
    assert said.code == 3
    assert said.err.endswith(f"the candidate is not checked yet (`embedmill check {spec}` does it)\n")


def test_a_run_that_does_not_exist_is_an_error(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.open()
    said = embedmill("index", spec, "--run", "20260101T000000-beef")
    assert said.code == 1
    assert f"no run '20260101T000000-beef' (`embedmill status {spec}` shows those that are open)" in said.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_stopped_gives_its_device_back(mill: Mill, number: signal.Signals) -> None:
    mill.settings["work"] = {"shard_rows": 16}
    planned = mill.planned(items(960))
    command = command_line("worker", "--run", planned.url, "--name", "w", "--parent", str(os.getpid()))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_commits(mill.root, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (75, "")
    assert err == "error: worker w was asked to stop (`embedmill resume` goes on)\n"


def test_a_worker_says_what_is_wrong_in_its_last_line(mill: Mill) -> None:
    planned = mill.planned(items(8))
    model = mill.home.store.url + f"/test/releases/{planned.plan.run}/model/model.onnx"
    Path(model).chmod(0o644)
    Path(model).write_bytes(b"damaged")
    said = run_alone("worker", "--run", planned.url, "--name", "w")
    assert said.code == 1
    assert said.err.startswith("error: ")
    assert said.err.endswith("model/model.onnx: its bytes are not those that were written\n")
    assert len(said.err.splitlines()) == 1


def test_a_worker_on_a_device_that_no_runtime_knows_here_says_what_it_takes(mill: Mill) -> None:
    planned = mill.planned(items(10))
    said = run_alone("worker", "--run", planned.url, "--name", "w", "--device", "cuda:1")
    assert said.code == 1
    (line,) = said.err.splitlines()
    assert line.startswith("error: onnx: ONNX Runtime ")
    assert "has no CUDAExecutionProvider (pip uninstall onnxruntime; pip install 'onnxruntime-gpu" in line


def test_a_worker_needs_the_url_of_a_run() -> None:
    said = run_alone("worker", "--run", "nonsense", "--name", "w")
    assert said.code == 2
    assert said.err == "error: --run nonsense: expected <store>/<pipeline>/runs/<name>\n"
