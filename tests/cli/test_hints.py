"""A hint that names a command can be pasted: it has the pipeline's file where that is known."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from tests.cli.terminal import Terminal
from tests.support.mill import Mill, items

from embedmill.cli.failures import report
from embedmill.cli.hints import OF_ONE_PIPELINE, with_file
from embedmill.errors import WorkerFailed


def test_the_commands_of_a_stopped_gate_can_be_pasted(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.settings = {"gates": {"quarantine": 0.0}}
    mill.write([*items(3), {"title": "no id"}])
    mill.open()
    said = embedmill("run", spec)
    assert said.code == 3
    command = said.err.split("`")[1]
    assert command == f"embedmill check {shlex.quote(str(spec))} --quarantine"
    listed = embedmill(*shlex.split(command)[1:])
    assert listed.code == 0
    assert "null-id" in listed.out


def test_one_quarantined_item_is_one(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.settings = {"gates": {"quarantine": 1.0}}
    mill.write([*items(3), {"title": "no id"}])
    mill.open()
    assert f"\n1 item is quarantined: embedmill release show {spec}" in embedmill("run", spec).err


def test_an_error_as_json_has_the_file_in_its_hint_too(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.open()
    assert embedmill.json("release", "show", spec, code=1)["error"]["hint"].startswith(
        f"`embedmill run {spec}` publishes"
    )


@pytest.mark.parametrize("name", OF_ONE_PIPELINE)
def test_every_command_that_gets_the_file_takes_it(name: str, embedmill: Terminal) -> None:
    assert "PIPELINE.yaml" in embedmill(*name.split(), "--help").out.split("Options")[0]
    assert with_file(f"`embedmill {name}` does it", ["run", "a b.yaml"]) == (
        f"`embedmill {name} 'a b.yaml'` does it"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["worker", "--run", "a.yaml"],
        ["fleet", "prove", "fleet.yaml"],
        ["run", "--all", "shops.yaml"],
        ["release", "copy", "shop.yaml", "3"],
        ["search", "releases/a"],
        [],
    ],
)
def test_a_file_that_is_no_pipeline_of_the_hint_is_not_put_in(arguments: list[str]) -> None:
    assert with_file("`embedmill run` starts one", arguments) == "`embedmill run` starts one"


def test_the_pipeline_is_told_from_the_fleet_and_a_whole_command_is_left_alone() -> None:
    arguments = ["run", "--fleet", "fleet.yaml", "--json", "shop.yaml"]
    assert with_file("`embedmill resume` goes on", arguments) == "`embedmill resume shop.yaml` goes on"
    assert with_file("`embedmill run other.yaml`", arguments) == "`embedmill run other.yaml`"


def test_a_hint_of_a_worker_that_a_message_quotes_gets_the_file_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = WorkerFailed("worker w: moved (then `embedmill run`)", hint="`embedmill resume` goes on")
    report(error, ["run", "shop.yaml"], as_json=False)
    assert capsys.readouterr().err == (
        "error: worker w: moved (then `embedmill run shop.yaml`) (`embedmill resume shop.yaml` goes on)\n"
    )
