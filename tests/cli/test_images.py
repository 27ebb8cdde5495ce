"""`images`: which there are, and folders that they are built from; builds are tests of the fleet group."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from tests.cli.terminal import Terminal

from embedmill.deploy.worker_image import VARIANTS

BASE = f"registry.internal/python@sha256:{'cd' * 32}"


def test_list_names_every_image_with_the_gpus_that_it_is_for(embedmill: Terminal) -> None:
    said = embedmill("images", "list")
    assert said.code == 0
    lines = {line.split()[0]: line for line in said.out.splitlines()[2:]}
    assert set(lines) == set(VARIANTS)
    assert "onnxruntime-gpu[cuda,cudnn]==1.26.0   12.9   6.0 7.0 7.5 8.0 8.6 9.0" in lines["onnx-cuda12"]


def test_list_as_json_has_the_figures(embedmill: Terminal) -> None:
    listed = {
        each["name"]: each for each in json.loads(embedmill("images", "list", "--json").out)["variants"]
    }
    assert listed["torch-cu130"]["sass"] == ["7.5", "8.0", "8.6", "9.0", "10.0", "12.0"]
    assert listed["onnx-cpu"]["cuda"] is None


def test_render_writes_a_folder_and_says_how_to_build_it(tmp_path: Path, embedmill: Terminal) -> None:
    said = embedmill("images", "render", "onnx-cpu", "--base", BASE, "--to", tmp_path / "image")
    assert said.code == 0
    assert "onnxruntime==1.32.0" in said.out
    assert said.err == f"embedmill images build {tmp_path}/image --tag embedmill:onnx-cpu\n"
    assert f"ARG BASE={BASE}\n" in (tmp_path / "image" / "Dockerfile").read_text()


def test_render_as_json_has_what_pip_installs(tmp_path: Path, embedmill: Terminal) -> None:
    options = ("--base", BASE, "--to", tmp_path / "image", "--embedmill", "0.1.0", "--json")
    report = json.loads(embedmill("images", "render", "onnx-cuda12", *options).out)
    assert report["schema"] == "image-render/1"
    assert report["requirements"] == [
        "embedmill[cloud,http]==0.1.0",
        "onnxruntime-gpu[cuda,cudnn]==1.26.0",
        "nvidia-cuda-runtime-cu12==12.9.79",
    ]


def test_figures_of_another_version_reach_the_labels(tmp_path: Path, embedmill: Terminal) -> None:
    figures = ("--version", "1.27.0", "--cuda", "13.0", "--sass", "7.5 12.0", "--ptx", "")
    said = embedmill("images", "render", "onnx-cuda12", "--base", BASE, "--to", tmp_path / "image", *figures)
    assert said.code == 0, said.err
    text = (tmp_path / "image" / "Dockerfile").read_text()
    assert 'embedmill.sass="7.5 12.0"' in text
    assert "embedmill.ptx" not in text


def test_an_unknown_image_is_a_usage_error(tmp_path: Path, embedmill: Terminal) -> None:
    said = embedmill("images", "render", "onnx", "--base", BASE, "--to", tmp_path / "image")
    assert said.code == 2
    assert "one of onnx-cpu, onnx-cuda12" in said.err


def test_build_wants_a_rendered_folder_and_a_tool_that_builds(tmp_path: Path, embedmill: Terminal) -> None:
    said = embedmill("images", "build", tmp_path, "--tag", "x", "--tool", "make")
    assert said.code == 2
    assert "is not one of podman, docker, buildah" in said.err


def test_an_entry_is_what_images_yaml_has() -> None:
    from embedmill.cli.images import entry_text
    from embedmill.deploy.image_labels import entry_of, labels_of
    from embedmill.spec.images import ImagesSpec

    labels = labels_of(VARIANTS["onnx-cuda12"], embedmill="0.1.0", base=BASE)
    entry = entry_of(f"worker@sha256:{'ab' * 32}", labels, [])
    text = entry_text("worker", entry)
    assert ImagesSpec.model_validate(yaml.safe_load(text)).images == {"worker": entry}
