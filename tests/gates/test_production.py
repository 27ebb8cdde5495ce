"""A candidate must do well on production's own server, and on what is installed there, before it is live."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import ValidationError
from tests.support.mill import Mill, items

from embedmill.errors import GateFailed, RunMissing, SpecError
from embedmill.runtimes.installed import this_environment
from embedmill.runtimes.onnx_header import OnnxNeeds, onnx_needs
from embedmill.runtimes.onnx_header import tiny_model as tiny_model_file
from embedmill.spec.documents import Verdict
from embedmill.spec.environment import Environment, InstalledRuntime
from embedmill.spec.production import ProductionSpec
from embedmill.spec.reports import RunReport

PROGRAM = Path(__file__).parents[1] / "support" / "production.py"


@pytest.fixture
def produced(mill: Mill) -> Mill:
    """A pipeline with a server of production, which does what the file `fault` says."""
    command = [sys.executable, str(PROGRAM), "{release}", "{folder}", "{port}", "fault"]
    mill.settings["serving"] = {"production": {"command": command, "ready_s": 60, "stop_s": 5}}
    (mill.root / "fault").write_text("none")
    return mill


def verdict(mill: Mill, gate: str) -> Verdict:
    gates = mill.open().open_run().check()
    return next(each for each in gates.verdicts if each.gate == gate)


def servers() -> list[psutil.Process]:
    """Servers of production that this process started and that still run."""
    children = psutil.Process().children(recursive=True)
    return [each for each in children if str(PROGRAM) in each.cmdline()]


def test_a_candidate_is_published_once_production_has_shown_it(produced: Mill) -> None:
    report = produced.run(items(40))
    assert isinstance(report, RunReport)
    gates = json.loads((produced.live().folder / "gates.json").read_bytes())
    (found,) = [each for each in gates["verdicts"] if each["gate"] == "parity"]
    assert found["passed"]
    assert re.fullmatch(r"2 encoders by oip: lowest cosine (1\.0|0\.9999)\d+", found["message"])
    assert not servers()
    assert produced.run(items(45)).number == 2, "and so is one that carries segments of the last"


def test_a_candidate_that_production_answers_wrongly_is_not_published_and_is_once_it_is_mended(
    produced: Mill, cache: Path
) -> None:
    (produced.root / "fault").write_text("permutes")
    planned = produced.indexed(items(40))
    with pytest.raises(GateFailed, match=r"test-item: in batches: .* have those of other rows") as caught:
        planned.run()
    assert caught.value.exit_code == 3
    assert caught.value.hint == "mend production, and run again: nothing is computed anew"
    assert not servers()
    log = cache / "production" / f"{planned.plan.run}.log"
    assert log.read_text() == "production: permutes\n"
    assert str(log) in caught.value.message
    (produced.root / "fault").write_text("none")
    assert produced.open().plan().plan.run == planned.plan.run, "the same run goes on"
    assert produced.open().run().number == 1
    assert not log.exists()


def test_a_server_that_ends_is_told_with_its_last_words(produced: Mill) -> None:
    (produced.root / "fault").write_text("dies")
    produced.indexed(items(5))
    found = verdict(produced, "parity")
    assert not found.passed
    assert "the server ended with exit code 1: production: dies | no licence" in found.message


def test_a_server_that_is_never_ready_is_ended(produced: Mill) -> None:
    (produced.root / "fault").write_text("never-ready")
    produced.settings["serving"]["production"]["ready_s"] = 2
    produced.indexed(items(5))
    found = verdict(produced, "parity")
    assert not found.passed
    assert "the server was not ready after 2 s: " in found.message
    assert not servers()


def test_all_that_the_command_started_is_ended(produced: Mill) -> None:
    """A shell ends at once when it is told to, and leaves what it started behind."""
    production = produced.settings["serving"]["production"]
    mark = f"mark-of-{produced.root.name}"
    production["command"] = ["sh", "-c", '"$@" & wait', mark, *production["command"]]
    produced.indexed(items(5))
    assert verdict(produced, "parity").passed
    everyone = psutil.process_iter(["cmdline", "cwd"])
    assert not [each for each in everyone if each.info["cwd"] == str(produced.root)]


def test_a_program_that_there_is_not_is_told(produced: Mill) -> None:
    produced.settings["serving"]["production"]["command"] = ["./no-such-server", "{port}"]
    produced.indexed(items(5))
    assert (
        "./no-such-server: cannot be started: No such file or directory"
        in verdict(produced, "parity").message
    )


def test_a_word_of_the_command_is_one_argument_and_no_shell_sees_it() -> None:
    spec = ProductionSpec(command=("serve", "--at={port}", "{release}", "$(touch x); 'a b'"))
    made = spec.arguments(release="/a b/{port}", number=1, port=8, folder="/tmp/x")
    assert made == ["serve", "--at=8", "/a b/{port}", "$(touch x); 'a b'"]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["serve", "{realese}", "{port}"], r"no placeholder \{realese\}: there are \{release\}"),
        (["serve", "{release}"], r"does not say \{port\}"),
    ],
)
def test_a_command_that_cannot_work_is_refused_when_it_is_read(command: list[str], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        ProductionSpec.model_validate({"command": command})


def with_environment(mill: Mill, **runtimes: InstalledRuntime) -> Mill:
    there = Environment(python="3.11.2", machine="linux-x86_64", runtimes=runtimes)
    (mill.root / "production.json").write_bytes(there.to_bytes())
    mill.settings["serving"] = {"production": {"environment": "production.json"}}
    return mill


def onnxruntime(version: str, **measured: Any) -> InstalledRuntime:
    return InstalledRuntime(library="onnxruntime", version=version, **measured)


@pytest.mark.parametrize(
    ("runtime", "says"),
    [
        (onnxruntime("1.11.0"), "production's onnxruntime 1.11.0 supports opset 16, the model needs 17"),
        (onnxruntime("1.99", max_opset=16), "onnxruntime 1.99 supports opset 16, the model needs 17"),
        (
            onnxruntime("1.14.1"),
            "production's onnxruntime 1.14.1 reads files of IR version 8, the model's is 9",
        ),
    ],
)
def test_an_onnx_runtime_that_is_too_old_stops_a_candidate(
    mill: Mill, runtime: InstalledRuntime, says: str
) -> None:
    mill.indexed(items(5))
    with_environment(mill, onnx=runtime)
    found = verdict(mill, "environment")
    assert not found.passed
    assert f"encoder item: {says}" in found.message or says in found.message
    with pytest.raises(GateFailed, match="environment: encoder item: "):
        mill.open().open_run().run()


def test_what_production_cannot_compute_is_refused_before_anything_is_computed(mill: Mill) -> None:
    """By the same words and exit code as the gate's; and it is published once production has been mended."""
    with_environment(mill, onnx=onnxruntime("1.11.0"))
    says = "environment: encoder item: production's onnxruntime 1.11.0 supports opset 16, the model needs 17"
    with pytest.raises(GateFailed, match=re.escape(says)) as caught:
        mill.run(items(5))
    assert caught.value.exit_code == 3
    assert str(mill.root / "production.json") in caught.value.hint
    with pytest.raises(RunMissing):
        mill.open().open_run()
    assert with_environment(mill, **this_environment().runtimes).run(items(5)).number == 1


def test_a_catalog_of_which_nothing_is_new_is_planned_whatever_production_has(mill: Mill) -> None:
    mill.run(items(5))
    with_environment(mill)
    assert mill.planned(items(5)).plan.compute == 0
    with pytest.raises(GateFailed, match=r"what is missing is not computed, .* production has none"):
        mill.planned(items(6))


def test_an_open_run_is_gone_on_with_only_if_production_can_compute_or_all_is_computed(mill: Mill) -> None:
    mill.planned(items(5))
    with_environment(mill)
    with pytest.raises(GateFailed, match="what is missing is not computed"):
        mill.open().plan()
    computed = with_environment(mill, **this_environment().runtimes).indexed(items(5))
    with_environment(mill)
    assert mill.open().plan().plan.run == computed.plan.run
    with pytest.raises(GateFailed, match="environment: encoder item: ") as caught:
        mill.open().run()
    assert "not computed" not in caught.value.message, "it was, and the gate itself stops it"


def test_a_runtime_that_production_lacks_stops_a_candidate(mill: Mill) -> None:
    torch = InstalledRuntime(library="torch", version="2.13.0")
    mill.indexed(items(5))
    with_environment(mill, torch=torch)
    found = verdict(mill, "environment")
    assert not found.passed
    assert "encoder item: the model needs the runtime 'onnx', and production has torch" in found.message


def test_what_is_installed_here_can_serve_what_was_made_here(mill: Mill) -> None:
    with_environment(mill, **this_environment().runtimes).indexed(items(5))
    found = verdict(mill, "environment")
    assert found.passed
    assert found.message == "production can compute every encoder"


def test_other_versions_are_named_and_no_fault(mill: Mill) -> None:
    with_environment(mill, onnx=onnxruntime("1.20.1")).indexed(items(5))
    found = verdict(mill, "environment")
    assert found.passed
    assert re.search(r"onnxruntime 1\.20\.1, where 1\.\d+\.\d+ made the vectors", found.message)


@pytest.mark.parametrize("content", [None, b"{}", b'{"schema": "environment/2"}'])
def test_a_file_that_is_missing_or_damaged_is_an_error_before_anything_is_computed(
    mill: Mill, content: bytes | None
) -> None:
    mill.settings["serving"] = {"production": {"environment": "production.json"}}
    if content is not None:
        (mill.root / "production.json").write_bytes(content)
    with pytest.raises(SpecError, match=r"serving.production.environment: .*production\.json") as caught:
        mill.planned(items(5))
    assert "embedmill environment --json" in caught.value.hint


def test_what_an_onnx_file_needs_is_read_from_it(tmp_path: Path, tiny_model: Path) -> None:
    assert onnx_needs(tiny_model / "model.onnx") == OnnxNeeds(ir=9, opsets={"ai.onnx": 17})
    (tmp_path / "tiny.onnx").write_bytes(tiny_model_file(opset=21, ir=8))
    assert onnx_needs(tmp_path / "tiny.onnx") == OnnxNeeds(ir=8, opsets={"ai.onnx": 21})


def test_the_newest_opset_is_measured_and_one_more_is_refused() -> None:
    import onnxruntime as library

    newest = this_environment().runtimes["onnx"].max_opset
    assert newest is not None
    library.InferenceSession(tiny_model_file(opset=newest, ir=8), providers=["CPUExecutionProvider"])
    with pytest.raises(Exception, match="opset"):
        library.InferenceSession(tiny_model_file(opset=newest + 1, ir=8), providers=["CPUExecutionProvider"])
