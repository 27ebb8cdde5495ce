"""`fleet prove`: one server from the probe to the yield, with a fake driver and real workers."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.models import tiny_bert_folder
from tests.support.fake_gpus import FakeGpu, FakeMig, FakeProcess, Scenario
from tests.support.mill import Mill, items
from tests.support.uncontained import install_podman

from embedmill.model.sentence_transformers import import_sentence_transformers

UUID = "GPU-00000000-1111-2222-3333-444444444444"
STEPS = ["probe", "idle", "match", "start", "parity", "yield"]
T4 = FakeGpu(UUID, used_mib=3)


@dataclasses.dataclass(frozen=True)
class Server:
    """This machine as a GPU server, and a pipeline with a release."""

    root: Path
    scenario: Path
    environment: dict[str, str]

    def says(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "embedmill", *arguments]
        environment = {**os.environ, **self.environment}
        return subprocess.run(command, cwd=self.root, env=environment, capture_output=True, timeout=120)

    def prove(self, *options: str) -> subprocess.CompletedProcess[bytes]:
        return self.says("fleet", "prove", "here", "pipeline.yaml", "--quiet", "--seconds", "0.5", *options)

    def prove_images(self) -> dict[str, Any]:
        answer = self.says("images", "prove", "pipeline.yaml", "--quiet", "--json")
        assert answer.stdout, answer.stderr.decode()
        found: dict[str, Any] = json.loads(answer.stdout)
        return found

    def steps(self, *options: str) -> dict[str, dict[str, object]]:
        answer = self.prove("--json", *options)
        assert answer.stdout, answer.stderr.decode()
        return {step["step"]: step for step in json.loads(answer.stdout)["steps"]}


@pytest.fixture
def server(tmp_path: Path, library: Path) -> Callable[[Scenario], Server]:
    bert = tiny_bert_folder(tmp_path / "bert")
    import_sentence_transformers(bert, tmp_path / "package", template="{title}")
    mill = Mill(tmp_path, tmp_path / "package")
    mill.run(items(40))
    podman = install_podman(tmp_path / "bin")
    (tmp_path / "images.yaml").write_text(
        f"images:\n  cpu: {{image: 'sha256:{'ab' * 32}', runtimes: {{onnx: 1.22.0}}, device: cpu}}\n"
    )
    (tmp_path / "fleet.yaml").write_text(
        "images: images.yaml\nidle: {window_s: 1, every_s: 0.2}\n"
        f"servers:\n  here: {{kind: local, folder: {tmp_path}/borrowed, mounts: [{tmp_path}]}}\n"
    )

    def make(scenario: Scenario) -> Server:
        file = tmp_path / "scenario"
        environment = scenario.environment(library, file)
        environment |= {
            "PATH": f"{podman.parent}:{os.environ['PATH']}",
            "EMBEDMILL_CACHE": str(tmp_path / "cache"),
        }
        return Server(tmp_path, file, environment)

    return make


def test_a_server_that_works_passes_every_step(server: Callable[[Scenario], Server]) -> None:
    steps = server(Scenario([T4])).steps()
    assert {name: step["state"] for name, step in steps.items()} == dict.fromkeys(STEPS, "passed"), steps
    parity = steps["parity"]["figures"]
    assert isinstance(parity, dict)
    assert parity["lowest_cosine"] >= 0.9999
    assert parity["item_rows_per_s"] > 0
    left = steps["yield"]["figures"]
    assert isinstance(left, dict)
    assert left["yield_s"] < 10
    assert "came" in str(steps["yield"]["found"])


def test_a_page_and_a_table_tell_the_same(server: Callable[[Scenario], Server]) -> None:
    here = server(Scenario([T4]))
    answer = here.prove("--html", "found.html")
    assert answer.returncode == 0, answer.stderr
    page, text = (here.root / "found.html").read_text(), answer.stdout.decode()
    for word in (*STEPS, "yield_s", "lowest_cosine"):
        assert word in page
        assert word in text
    assert UUID in page


def test_what_fails_is_said_and_what_follows_is_skipped(server: Callable[[Scenario], Server]) -> None:
    busy = Scenario([T4], [FakeProcess(gpu=0, pid=os.getpid(), used_mib=900)])
    here = server(busy)
    assert here.prove().returncode == 3
    steps = here.steps()
    assert steps["idle"]["state"] == "failed"
    assert f"pid {os.getpid()}" in str(steps["idle"]["found"])
    assert [steps[name]["state"] for name in STEPS[2:]] == ["skipped"] * 4


def test_a_model_that_computes_something_else_there_fails_its_proof(
    server: Callable[[Scenario], Server],
) -> None:
    here = server(Scenario([T4]))
    broken = here.root / "bin" / "podman"
    broken.write_text(broken.read_text().replace('"-m", "embedmill"', '"-m", "tests.support.rounding"'))
    here.environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    steps = here.steps()
    assert steps["parity"]["state"] == "failed"
    assert "below 0.9999" in str(steps["parity"]["found"])
    assert steps["yield"]["state"] == "skipped"


def with_a_newer_image(here: Server) -> None:
    line = "  {name}: {{image: 'sha256:{digest}', runtimes: {{onnx: 1.23.0}}, device: cpu{more}}}\n"
    newer = line.format(name="newer", digest="cd" * 32, more=", replaces: cpu")
    older = line.format(name="cpu", digest="ab" * 32, more="")
    (here.root / "images.yaml").write_text(f"images:\n{newer}{older}")


def test_a_new_image_takes_the_place_of_the_old_one_once_it_is_proven(
    server: Callable[[Scenario], Server],
) -> None:
    here = server(Scenario([T4]))
    with_a_newer_image(here)
    found = here.prove_images()
    assert [(each["image"], each["passed"]) for each in found["tried"]] == [("newer", True)]
    assert [gpu["chosen"] for gpu in found["match"]["gpus"]] == ["newer"]
    assert here.prove_images()["tried"] == []  # what is known is not tried again


def test_where_a_new_image_makes_other_vectors_the_old_one_stays(
    server: Callable[[Scenario], Server],
) -> None:
    here = server(Scenario([T4]))
    with_a_newer_image(here)
    podman = here.root / "bin" / "podman"
    noisy = '"tests.support.rounding" if "cd" * 32 in sys.argv[image] else "embedmill"'
    podman.write_text(podman.read_text().replace('"embedmill"', noisy))
    here.environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    found = here.prove_images()
    assert [(each["image"], each["passed"]) for each in found["tried"]] == [("newer", False)]
    (gpu,) = found["match"]["gpus"]
    assert gpu["chosen"] == "cpu"
    assert "newer: it failed its proof" in gpu["reason"]


def test_a_busy_gpu_is_not_used_for_a_proof(server: Callable[[Scenario], Server]) -> None:
    here = server(Scenario([T4], [FakeProcess(gpu=0, pid=os.getpid(), used_mib=900)]))
    with_a_newer_image(here)
    found = here.prove_images()
    assert [(each["image"], each["passed"]) for each in found["tried"]] == [("newer", None)]
    assert f"pid {os.getpid()}" in found["tried"][0]["said"]
    assert [gpu["chosen"] for gpu in found["match"]["gpus"]] == ["cpu"]


def test_the_command_of_a_container_is_printed_and_nothing_is_started(
    server: Callable[[Scenario], Server],
) -> None:
    here = server(Scenario([T4]))
    (gpu,) = json.loads(here.says("fleet", "command", "here", "--json").stdout)["gpus"]
    assert gpu["command"][:2] == ["podman", "run"]
    assert gpu["command"][-1] == f"sha256:{'ab' * 32}"
    assert {"--read-only", "--cap-drop=all"} <= set(gpu["command"])
    plain = here.says("fleet", "command", "here")
    assert shlex.split(plain.stdout.decode()) == gpu["command"]


def test_every_slice_has_a_command_of_its_own(server: Callable[[Scenario], Server]) -> None:
    slices = (FakeMig("MIG-aaaaaaaa-1111", gi=7), FakeMig("MIG-bbbbbbbb-2222", gi=8))
    here = server(Scenario([FakeGpu(UUID, "NVIDIA A100-SXM4-40GB", 40960, 0, cc="8.0", mig=1, migs=slices)]))
    found = json.loads(here.says("fleet", "command", "here", "--json").stdout)["gpus"]
    assert [(gpu["index"], gpu["uuid"]) for gpu in found] == [(0, each.uuid) for each in slices]
    names = [word for gpu in found for word in gpu["command"] if word.startswith("--name=")]
    assert names == ["--name=embedmill-RUN-here-0-aaaaaaaa", "--name=embedmill-RUN-here-0-bbbbbbbb"]


def test_an_image_without_a_runtime_of_the_model_is_not_tried(server: Callable[[Scenario], Server]) -> None:
    here = server(Scenario([T4]))
    images = here.root / "images.yaml"
    images.write_text(images.read_text().replace("onnx: 1.22.0", "torch: 2.11.0"))
    step = here.steps()["match"]
    assert step["state"] == "failed"
    assert "torch" in str(step["found"])
    line = "  {name}: {{image: 'sha256:{digest}', runtimes: {{{runtime}: '1'}}, device: cpu{more}}}\n"
    newer = line.format(name="newer", digest="cd" * 32, runtime="torch", more=", replaces: cpu")
    images.write_text(f"images:\n{newer}{line.format(name='cpu', digest='ab' * 32, runtime='onnx', more='')}")
    found = here.prove_images()
    assert found["tried"] == []
    assert [gpu["chosen"] for gpu in found["match"]["gpus"]] == ["cpu"]


def test_no_cdi_specification_is_made_of_nodes_that_are_not_there(
    server: Callable[[Scenario], Server],
) -> None:
    answer = server(Scenario([T4])).says("fleet", "cdi", "here")
    assert answer.returncode == 1
    assert b"no /dev/nvidia" in answer.stderr
    assert not answer.stdout


@pytest.mark.parametrize(
    "command", [["prove", "pool", "pipeline.yaml"], ["command", "pool"], ["doctor", "pool"]]
)
def test_a_pool_is_no_server_and_one_line_says_so(
    server: Callable[[Scenario], Server], command: list[str]
) -> None:
    here = server(Scenario([T4]))
    with (here.root / "fleet.yaml").open("a") as file:
        file.write("pools: {pool: [here]}\n")
    answer = here.says("fleet", *command)
    assert answer.returncode == 2
    assert answer.stderr == b"error: no server 'pool' (one of them is needed: here)\n"


def test_a_worker_that_ends_by_itself_has_not_yielded(server: Callable[[Scenario], Server]) -> None:
    here = server(Scenario([T4]))
    podman = here.root / "bin" / "podman"
    ends = 'if "120.0" in sys.argv: sys.exit("out of memory")'
    podman.write_text(podman.read_text().replace("import os, sys\n", f"import os, sys\n{ends}\n"))
    step = here.steps()["yield"]
    assert step["state"] == "failed"
    assert "did not yield: it ended with 1: out of memory" in str(step["found"])


def test_an_idle_slice_is_proven_where_its_gpu_is_in_mig_mode(server: Callable[[Scenario], Server]) -> None:
    slices = (FakeMig("MIG-00000000-1111-2222-3333-555555555555"),)
    sliced = FakeGpu(UUID, "NVIDIA A100-SXM4-40GB", 40960, 0, cc="8.0", mig=1, migs=slices)
    steps = server(Scenario([sliced])).steps()
    assert {name: steps[name]["state"] for name in STEPS[:5]} == dict.fromkeys(STEPS[:5], "passed"), steps
