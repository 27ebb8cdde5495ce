"""`fleet match`: the image of each GPU, what was refused and why, from what a probe wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cli.terminal import Terminal
from tests.fleet.facts import gpu, host
from tests.models import tiny_text_package

from embedmill.fleet.proofs import Proofs, key_of
from embedmill.model.package import ModelPackage
from embedmill.spec import load_images_spec
from embedmill.spec.fleet_reports import FleetProbe, ImageProof, ServerProbe
from embedmill.spec.host import MigDevice
from embedmill.store import open_store

SHA = "sha256:"
IMAGES: dict[str, dict[str, Any]] = {
    "torch-cu126": {
        "image": f"registry/torch@{SHA}{'a' * 64}",
        "runtimes": {"torch": "2.11.0"},
        "cuda": "12.6",
        "sass": ["7.0", "7.5", "8.0"],
    },
    "onnx-11": {
        "image": SHA + "b" * 64,
        "runtimes": {"onnx": "1.17.3"},
        "cuda": "11.8",
        "sass": ["7.0", "7.5", "8.0"],
    },
}


class Folder:
    """A fleet.yaml, an images.yaml and a probe.json, and the command that reads them."""

    def __init__(self, root: Path, embedmill: Terminal) -> None:
        self.root = root
        self.embedmill = embedmill
        self.write(IMAGES)
        fleet = {"servers": {"gpu-01": None, "gpu-02": None, "gpu-03": None}, "pools": {"old": ["gpu-02"]}}
        (root / "fleet.yaml").write_text(yaml.safe_dump({**fleet, "images": "images.yaml"}))
        self.probe = root / "probe.json"
        self.asked("535.183.01", "470.223.02")

    def write(self, images: dict[str, dict[str, Any]]) -> None:
        (self.root / "images.yaml").write_text(yaml.safe_dump({"images": images}, sort_keys=False))

    def asked(self, *drivers: str) -> None:
        answered = [
            ServerProbe(
                server=f"gpu-0{n}", state="ok", reason="", seconds=1, facts=host(gpu(), driver=driver)
            )
            for n, driver in enumerate(drivers, 1)
        ]
        silent = ServerProbe(server="gpu-03", state="timeout", reason="no answer in 30 s", seconds=30)
        told = FleetProbe(taken="2026-01-30T12:00:00Z", seconds=1, servers=(*answered, silent))
        self.probe.write_bytes(told.to_bytes())

    @property
    def arguments(self) -> list[str | Path]:
        return ["fleet", "match", "--fleet", self.root / "fleet.yaml", "--probe", self.probe]


@pytest.fixture
def folder(tmp_path: Path, embedmill: Terminal) -> Folder:
    return Folder(tmp_path, embedmill)


def test_every_gpu_gets_the_first_image_that_runs_and_refusals_are_listed(folder: Folder) -> None:
    said = folder.embedmill(*folder.arguments)
    assert said.code == 0
    rows = [line.split() for line in said.out.splitlines()]
    assert ["gpu-01", "0", "Tesla", "T4", "535.183.01", "torch-cu126", "minor"] in [row[:7] for row in rows]
    assert ["gpu-02", "0", "Tesla", "T4", "470.223.02", "onnx-11", "minor"] in [row[:7] for row in rows]
    refused = said.out.split("refused", 1)[1]
    assert "torch-cu126" in refused
    assert (
        "every CUDA 12 runs on driver 525 and newer, with fewer features, and 470.223.02 is older" in refused
    )
    assert "gpu-03: timeout: no answer in 30 s" in said.err
    assert "beyond the driver's own is absent" in said.err


def test_slices_of_a_gpu_are_told_apart(folder: Folder) -> None:
    slices = [
        MigDevice(uuid=f"MIG-{letter * 8}-0000", profile="1g.5gb", memory_bytes=1, used_bytes=0)
        for letter in "ab"
    ]
    facts = host(gpu(mig=True, mig_devices=tuple(slices)))
    server = ServerProbe(server="gpu-01", state="ok", reason="", seconds=1, facts=facts)
    told = FleetProbe(taken="2026-01-30T12:00:00Z", seconds=1, servers=(server,))
    folder.probe.write_bytes(told.to_bytes())
    said = folder.embedmill(*folder.arguments).out
    assert "0-aaaaaaaa" in said
    assert "0-bbbbbbbb" in said


def test_with_all_every_step_is_shown(folder: Folder) -> None:
    said = folder.embedmill(*folder.arguments, "--all")
    assert "no: native: CUDA 12.6 ships with driver 560.28.03, and 535.183.01 is older" in said.out
    assert "yes: machine code for 7.5 runs on compute capability 7.5" in said.out
    assert "yes: machine code" not in folder.embedmill(*folder.arguments).out


def test_the_document_has_every_verdict(folder: Folder) -> None:
    found = folder.embedmill.json(*folder.arguments)
    assert found["schema"] == "fleet-match/1"
    assert [(each["server"], each["chosen"]) for each in found["gpus"]] == [
        ("gpu-01", "torch-cu126"),
        ("gpu-02", "onnx-11"),
    ]
    assert [each["rule"] for each in found["gpus"][1]["verdicts"]] == ["refused", "minor"]
    assert found["unanswered"] == {"gpu-03": "timeout: no answer in 30 s"}


def test_a_gpu_without_an_image_ends_with_3(folder: Folder) -> None:
    folder.asked("535.183.01", "410.48")
    said = folder.embedmill(*folder.arguments)
    assert said.code == 3
    assert "see below" in said.out
    assert folder.embedmill.json(*folder.arguments, code=3)["gpus"][1]["chosen"] is None


def test_no_gpu_at_all_ends_with_3(folder: Folder) -> None:
    folder.asked()
    said = folder.embedmill(*folder.arguments)
    assert (said.code, said.out) == (3, "")
    assert "gpu-03: timeout: no answer in 30 s" in said.err


def test_servers_and_pools_can_be_named(folder: Folder) -> None:
    for names, servers in ((["old"], ["gpu-02"]), (["gpu-01", "old"], ["gpu-01", "gpu-02"])):
        found = folder.embedmill.json(*folder.arguments, *names)
        assert [each["server"] for each in found["gpus"]] == servers
        assert found["unanswered"] == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: folder.probe.unlink(), "cannot be read: no such file"),
        (lambda folder: folder.probe.write_text("{}"), "not a fleet-probe/1 document"),
        (lambda folder: (folder.root / "images.yaml").unlink(), "images.yaml: no such file"),
        (
            lambda folder: folder.write(
                {"tf": {**IMAGES["onnx-11"], "require": {"NVIDIA_REQUIRE_CUDA": "cuda=>11"}}}
            ),
            "tf: require: NVIDIA_REQUIRE_CUDA: 'cuda=>11' is no condition",
        ),
    ],
)
def test_what_is_wrong_is_said_and_ends_with_2(folder: Folder, change: Any, said: str) -> None:
    change(folder)
    found = folder.embedmill(*folder.arguments)
    assert found.code == 2
    assert said in found.err


def test_servers_that_are_unknown_or_of_which_the_file_says_nothing_are_refused(folder: Folder) -> None:
    unknown = folder.embedmill(*folder.arguments, "gpu-09")
    assert unknown.code == 2
    assert "no server or pool 'gpu-09'" in unknown.err
    told = FleetProbe.from_bytes(folder.probe.read_bytes(), "probe.json")
    folder.probe.write_bytes(told.model_copy(update={"servers": told.servers[:1]}).to_bytes())
    missing = folder.embedmill(*folder.arguments, "gpu-01", "gpu-02", "gpu-03")
    assert missing.code == 2
    assert "says nothing of gpu-02, gpu-03" in missing.err


def test_images_can_be_named_beside_the_fleet(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text("servers: {gpu-01: }\n")
    said = folder.embedmill(*folder.arguments)
    assert said.code == 2
    assert "fleet.yaml: names no images (add `images: images.yaml`)" in said.err
    assert folder.embedmill(*folder.arguments, "--images", tmp_path / "images.yaml").code == 0


def test_a_model_and_its_proofs_decide_too(folder: Folder, tmp_path: Path) -> None:
    model = tiny_text_package(tmp_path / "model")
    only_onnx = folder.embedmill.json(*folder.arguments, "--model", model)
    assert {each["chosen"] for each in only_onnx["gpus"]} == {"onnx-11"}
    newer = {**IMAGES["onnx-11"], "image": SHA + "c" * 64, "replaces": "onnx-11"}
    folder.write({"onnx-newer": newer, **IMAGES})
    proven = [*folder.arguments, "--model", model, "--proofs", str(tmp_path / "mill")]
    assert {each["chosen"] for each in folder.embedmill.json(*proven)["gpus"]} == {"onnx-11"}
    images = load_images_spec(tmp_path / "images.yaml").images
    digest = ModelPackage.open(model).package_digest()
    Proofs(open_store(str(tmp_path / "mill"))).keep(
        ImageProof(
            key=key_of(images["onnx-newer"], "Tesla T4", "535.183.01", digest),
            passed=True,
            reason="256 goldens, lowest cosine 0.99998",
            baseline=SHA + "b" * 64,
            lowest_cosine=0.99998,
            goldens=256,
            seconds=12.5,
            taken="2026-01-30T12:00:00Z",
        )
    )
    assert [each["chosen"] for each in folder.embedmill.json(*proven)["gpus"]] == ["onnx-newer", "onnx-11"]


def test_proofs_without_a_model_are_refused(folder: Folder, tmp_path: Path) -> None:
    said = folder.embedmill(*folder.arguments, "--proofs", tmp_path)
    assert said.code == 2
    assert "--proofs needs --model" in said.err
