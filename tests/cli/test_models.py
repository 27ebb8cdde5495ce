"""`model …`: import, show and check packages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import numpy_helper
from tests.cli.terminal import Terminal
from tests.every_input import every_input_package
from tests.models import tiny_image_package, tiny_text_package


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    """An ONNX file with a model.yaml and a tokenizer beside it."""
    return tiny_text_package(tmp_path / "source") / "model.onnx"


def test_an_onnx_file_with_a_spec_becomes_a_package(
    onnx_file: Path, tmp_path: Path, embedmill: Terminal
) -> None:
    spec, out = onnx_file.with_name("model.yaml"), tmp_path / "package"
    report = embedmill.json("model", "import", onnx_file, "--spec", spec, "--out", out)
    assert report["schema"] == "model/2"
    assert report == embedmill.json("model", "show", out)
    assert set(report["encoder_digests"]) == {"item", "query_text"}
    assert {"model.onnx", "model.yaml", "tokenizer.json", "goldens/item.jsonl"} <= set(report["files"])
    again = embedmill("model", "import", onnx_file, "--spec", spec, "--out", out)
    assert again.code == 1
    assert "exists already" in again.err


def test_import_says_how_to_use_the_package(onnx_file: Path, tmp_path: Path, embedmill: Terminal) -> None:
    out = tmp_path / "package"
    said = embedmill("model", "import", onnx_file, "--spec", onnx_file.with_name("model.yaml"), "--out", out)
    assert said.code == 0
    assert f"model: {out}" in said.err


def test_import_says_from_where_a_relative_path_starts(
    onnx_file: Path, tmp_path: Path, embedmill: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = onnx_file.with_name("model.yaml")
    said = embedmill("model", "import", onnx_file, "--spec", spec, "--out", "packages/own")
    assert said.code == 0
    assert "`model: packages/own` into a pipeline.yaml of this folder" in said.err
    assert f"another folder the path from there, or `model: {tmp_path / 'packages' / 'own'}`" in said.err


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ([], "a file needs --spec"),
        (
            ["--spec", "x.yaml", "--max-length", "3", "--query-template", "q"],
            "--query-template, --max-length",
        ),
        (["--spec", "nope.yaml"], "nope.yaml: no such file"),
    ],
)
def test_options_that_do_not_fit_are_usage(
    onnx_file: Path, tmp_path: Path, embedmill: Terminal, options: list[str], found: str
) -> None:
    said = embedmill("model", "import", onnx_file, "--out", tmp_path / "package", *options)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert found in said.err
    assert not (tmp_path / "package").exists()


def test_a_function_needs_a_spec_with_a_runtime_jax(
    onnx_file: Path, tmp_path: Path, embedmill: Terminal
) -> None:
    said = embedmill("model", "import", "shop:embed", "--out", tmp_path / "package")
    assert (said.code, said.err) == (
        2,
        "error: shop:embed: a function needs --spec (give a model.yaml that says what its inputs are)\n",
    )
    spec = onnx_file.with_name("model.yaml")
    said = embedmill("model", "import", "shop:embed", "--spec", spec, "--out", tmp_path / "package")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert f"{spec}: declares no runtime jax, and shop:embed is a function" in said.err


def test_a_sentence_transformers_folder_takes_no_spec(tmp_path: Path, embedmill: Terminal) -> None:
    (tmp_path / "modules.json").write_text("[]")
    said = embedmill("model", "import", tmp_path, "--spec", "x.yaml", "--out", tmp_path / "package")
    assert (said.code, said.err) == (
        2,
        "error: --spec: not for a sentence-transformers folder (it says all by itself; leave --spec out)\n",
    )


def test_a_source_that_is_not_there_is_an_error_that_says_so(tmp_path: Path, embedmill: Terminal) -> None:
    said = embedmill("model", "import", tmp_path / "nowhere", "--out", tmp_path / "package")
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert f"{tmp_path / 'nowhere'}: no such folder" in said.err


def test_a_folder_that_is_no_model_is_an_error(tmp_path: Path, embedmill: Terminal) -> None:
    (tmp_path / "empty").mkdir()
    said = embedmill("model", "import", tmp_path / "empty", "--out", tmp_path / "package")
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert str(tmp_path / "empty") in said.err


def test_show_tells_inputs_and_both_digests(tmp_path: Path, embedmill: Terminal) -> None:
    package = tiny_text_package(tmp_path / "text")
    report = embedmill.json("model", "show", package)
    said = embedmill("model", "show", package).out
    for found in ("{title}. {category}", "tokenizer.json", report["package_digest"]):
        assert found in said
    assert report["encoder_digests"]["item"] in said
    assert (
        "image 'image', 16 x 16, nchw" in embedmill("model", "show", tiny_image_package(tmp_path / "i")).out
    )


def test_check_embeds_goldens_and_prints_inputs_and_outputs(
    onnx_file: Path, tmp_path: Path, embedmill: Terminal
) -> None:
    out = tmp_path / "package"
    embedmill("model", "import", onnx_file, "--spec", onnx_file.with_name("model.yaml"), "--out", out)
    report = embedmill.json("model", "check", out)
    assert (report["schema"], report["ok"]) == ("model-check/2", True)
    for encoder in report["encoders"]:
        assert encoder["goldens"] > 0
        (runtime,) = encoder["runtimes"]
        assert (runtime["kind"], runtime["model"], runtime["state"]) == ("onnx", "model.onnx", "ok")
        assert runtime["lowest_cosine"] == pytest.approx(1.0)
    said = embedmill("model", "check", out).out
    for found in ("input_ids: int64[rows, tokens]", "vectors: float32[rows, 16]", "lowest cosine 1.000000"):
        assert found in said


def test_check_fails_when_weights_compute_something_else(
    onnx_file: Path, tmp_path: Path, embedmill: Terminal
) -> None:
    out = tmp_path / "package"
    embedmill("model", "import", onnx_file, "--spec", onnx_file.with_name("model.yaml"), "--out", out)
    model = onnx.load(out / "model.onnx")
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(np.roll(values, 1, axis=-1) * -1, tensor.name))
    onnx.save(model, out / "model.onnx")
    said = embedmill("model", "check", out)
    assert said.code == 1
    assert "goldens moved" in said.err
    assert said.out.count("model.onnx: FAILED: lowest cosine -") == 2
    report = embedmill.json("model", "check", out, code=1)
    assert report["ok"] is False
    assert [encoder["runtimes"][0]["state"] for encoder in report["encoders"]] == ["failed", "failed"]
    assert "goldens moved" in report["encoders"][0]["runtimes"][0]["why"]


def test_show_tells_of_every_runtime_what_it_needs_and_whether_it_can_compute_here(
    tmp_path: Path, embedmill: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tiny_text_package(tmp_path / "package")
    server = {"model": "tiny", "version": 3}
    declared = [
        {"kind": "onnx", "file": "model.onnx"},
        {"kind": "triton", "encoders": ["item"], **server},
        {"kind": "tf_serving", **server},
    ]
    file = package / "model.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"runtimes": declared}))
    monkeypatch.setenv("EMBEDMILL_TF_SERVING_URL", "http://127.0.0.1:9")
    onnx_, triton, tf_serving = embedmill.json("model", "show", package)["runtimes"]
    assert onnx_ == {
        "kind": "onnx",
        "where": "file",
        "model": "model.onnx",
        "encoders": ["item", "query_text"],
        "extra": "onnx",
        "available": True,
        "why": "",
        "platforms": None,
    }
    assert (triton["where"], triton["model"], triton["encoders"]) == ("server", "tiny 3", ["item"])
    assert triton["available"] is False
    assert "set EMBEDMILL_TRITON_URL" in triton["why"]
    assert (tf_serving["available"], tf_serving["extra"]) == (True, "http")
    shown = " ".join(embedmill("model", "show", package).out.split())
    assert "onnx file model.onnx item, query_text embedmill[onnx] available" in shown
    assert "triton server tiny 3 item embedmill[triton] not available: triton: nothing says" in shown


def test_show_tells_of_every_kind_what_it_is_made_of_and_what_stands_for_missing(
    tmp_path: Path, embedmill: Terminal
) -> None:
    shown = " ".join(embedmill("model", "show", every_input_package(tmp_path / "package")).out.split())
    for line in (
        "item pixels image 'front, back', 4 x 4, nhwc",
        "item category category 'category', categories.txt, unknown: 0, missing: 9",
        "item tags categories 'tags', tags.txt, unknown: drop, missing: empty",
        "item price number 'price', transform: log1p, missing: 10.0",
        "item stock boolean 'stock', missing: False",
        "item title string '{title}'",
        "item file bytes 'front', missing: empty",
        "query_text title string '{query}'",
    ):
        assert line in shown
