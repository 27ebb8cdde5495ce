"""Folders that images of workers are built from: what they fetch and say, and what a house can choose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from embedmill.deploy.image_labels import entry_of, labels_of
from embedmill.deploy.worker_image import VARIANTS, Settings, chosen_variant, mirrored, render_image
from embedmill.errors import SpecError

DIGEST = f"sha256:{'cd' * 32}"
BASE = f"registry.internal/python@{DIGEST}"
IMAGE = f"registry.internal/worker@sha256:{'ab' * 32}"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


def rendered(folder: Path, name: str = "onnx-cuda12", **settings: Any) -> str:
    render_image(folder, chosen_variant(name), Settings(BASE, embedmill="0.1.0", **settings))
    return (folder / "Dockerfile").read_text()


@pytest.mark.parametrize("name", VARIANTS)
def test_labels_become_the_entry_that_they_were_made_of(name: str) -> None:
    variant = VARIANTS[name]
    entry = entry_of(IMAGE, labels_of(variant, embedmill="0.1.0", base=BASE), [])
    assert (entry.image, entry.device, entry.cuda) == (IMAGE, variant.device, variant.cuda)
    assert (entry.sass, entry.ptx) == (variant.sass, variant.ptx)
    assert entry.runtimes == {variant.runtime: variant.version.split("+")[0]}


@pytest.mark.parametrize("name", VARIANTS)
def test_an_image_for_gpus_has_code_and_says_so_to_its_build(name: str, tmp_path: Path) -> None:
    variant, text = VARIANTS[name], rendered(tmp_path / "image", name)
    claims = f"--code {variant.package} --sass '{' '.join(variant.sass)}'"
    assert (claims in text) == bool(variant.sass) == (variant.device == "cuda")
    assert (variant.cuda is None) == name.endswith("-cpu")


@pytest.mark.parametrize("name", VARIANTS)
def test_everything_that_is_installed_has_one_version(name: str, tmp_path: Path) -> None:
    rendered(tmp_path / "image", name)
    lines = (tmp_path / "image" / "requirements.txt").read_text().splitlines()
    assert lines[0] == "embedmill[cloud,http]==0.1.0"
    assert all("==" in line for line in lines)


def test_ray_is_installed_in_the_version_of_the_cluster_and_the_label_says_which(tmp_path: Path) -> None:
    text = rendered(tmp_path / "image", ray="2.60.0")
    assert 'embedmill.ray="2.60.0"' in text
    lines = (tmp_path / "image" / "requirements.txt").read_text().splitlines()
    assert lines[-1] == "ray[default]==2.60.0"
    labels = labels_of(VARIANTS["onnx-cpu"], embedmill="0.1.0", base=BASE, ray="2.60.0")
    assert entry_of(IMAGE, labels, []).ray == "2.60.0"
    assert entry_of(IMAGE, labels_of(VARIANTS["onnx-cpu"], embedmill="0.1.0", base=BASE), []).ray is None
    with pytest.raises(SpecError, match="ray 'latest': is not a version"):
        rendered(tmp_path / "other", ray="latest")


def test_what_nvidias_images_require_is_read_from_their_variables() -> None:
    labels = labels_of(VARIANTS["onnx-cuda12"], embedmill="0.1.0", base=BASE)
    variables = ["PATH=/bin", "NVIDIA_REQUIRE_CUDA=cuda>=12.9", "NVIDIA_VISIBLE_DEVICES=all"]
    assert entry_of(IMAGE, labels, variables).require == {"NVIDIA_REQUIRE_CUDA": "cuda>=12.9"}


def test_an_image_of_somebody_else_is_told_from_ours() -> None:
    with pytest.raises(SpecError, match=r"no label embedmill\.runtimes"):
        entry_of(IMAGE, {"maintainer": "somebody"}, [])
    with pytest.raises(SpecError, match=r"label embedmill\.sass"):
        entry_of(IMAGE, {"embedmill.runtimes": "onnx=1", "embedmill.sass": "seven"}, [])


def test_without_a_wheelhouse_the_index_is_asked_with_it_none_is(tmp_path: Path) -> None:
    assert "--no-index" not in rendered(tmp_path / "open")
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with pytest.raises(SpecError, match="has no wheels"):
        rendered(tmp_path / "closed", wheels=wheels)
    (wheels / "a-1-py3-none-any.whl").write_bytes(b"wheel")
    assert "--no-index" in rendered(tmp_path / "closed", wheels=wheels)
    assert (tmp_path / "closed" / "wheels" / "a-1-py3-none-any.whl").read_bytes() == b"wheel"
    assert "--no-index" in rendered(tmp_path / "closed", wheels=wheels), "written again over the old one"


def test_certificates_of_the_house_are_trusted_by_pip_and_by_workers(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(CERTIFICATE)
    text = rendered(tmp_path / "image", authority=tmp_path / "ca.pem")
    assert "ENV PIP_CERT=/opt/embedmill/ca.pem" in text
    assert "SSL_CERT_FILE=/opt/embedmill/ca.pem" in text
    assert (tmp_path / "image" / "ca.pem").read_text() == CERTIFICATE
    assert "ca.pem" not in rendered(tmp_path / "other")


def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    with pytest.raises(SpecError, match="has no certificate"):
        rendered(tmp_path / "image", authority=tmp_path / "key.pem")


@pytest.mark.parametrize(
    ("base", "found"),
    [
        (f"python@{DIGEST}", f"mirror.internal/hub/library/python@{DIGEST}"),
        (f"someone/python@{DIGEST}", f"mirror.internal/hub/someone/python@{DIGEST}"),
        (f"docker.io/library/python@{DIGEST}", f"mirror.internal/hub/library/python@{DIGEST}"),
        (f"localhost:5000/a/b@{DIGEST}", f"mirror.internal/hub/a/b@{DIGEST}"),
    ],
)
def test_a_mirror_has_the_same_image_under_its_own_name(base: str, found: str) -> None:
    assert mirrored(base, "mirror.internal/hub/") == found
    assert mirrored(base, None) == base


def test_whom_containers_run_as_is_chosen_and_is_not_root(tmp_path: Path) -> None:
    assert "USER 1234:1234" in rendered(tmp_path / "image", user=1234)
    assert "USER 10001:10001" in rendered(tmp_path / "other")


def test_another_version_may_have_other_figures() -> None:
    variant = chosen_variant("onnx-cuda12", version="1.27.0", cuda="13.0", sass=("7.5", "12.0"), ptx=None)
    assert variant.requirement == "onnxruntime-gpu[cuda,cudnn]==1.27.0"
    assert (variant.cuda, variant.sass, variant.ptx) == ("13.0", ("7.5", "12.0"), ("9.0",))


@pytest.mark.parametrize("value", ["", "1 2", "1;rm", "$(id)", "latest"])
def test_what_is_no_version_never_reaches_a_shell(value: str) -> None:
    with pytest.raises(SpecError, match="is not a version"):
        chosen_variant("onnx-cuda12", version=value)
    with pytest.raises(SpecError, match="is not a version"):
        chosen_variant("onnx-cuda12", sass=(value,))


def test_an_unknown_image_is_told_with_those_that_there_are() -> None:
    with pytest.raises(SpecError, match=r"no image 'onnx'.*onnx-cpu, onnx-cuda12"):
        chosen_variant("onnx")


def test_a_base_without_a_digest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="is not named by its digest"):
        render_image(tmp_path / "image", chosen_variant("onnx-cpu"), Settings("python:3.12-slim"))


def test_nothing_else_may_lie_in_the_folder(tmp_path: Path) -> None:
    rendered(tmp_path / "image")
    (tmp_path / "image" / "pip.conf").write_text("[global]\n")
    with pytest.raises(SpecError, match=r"has 'pip\.conf', which would stay"):
        rendered(tmp_path / "image")
