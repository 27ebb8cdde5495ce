"""Folders that could run code are refused before any library sees them: so without those libraries, too."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.models import tiny_bert_folder, write_json

from embedmill.errors import ModelError
from embedmill.model.sentence_transformers import import_sentence_transformers


class Canary:
    """Unpickling it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.file), "w"))


def add_module(folder: Path, kind: str, path: str) -> None:
    listed = json.loads((folder / "modules.json").read_bytes())
    listed.append({"idx": 9, "name": "9", "path": path, "type": kind})
    write_json(folder / "modules.json", listed)


def edit(file: Path, **changes: Any) -> None:
    write_json(file, {**(json.loads(file.read_bytes()) if file.is_file() else {}), **changes})


def with_dense(folder: Path, activation: str) -> None:
    add_module(folder, "sentence_transformers.models.Dense", "3_Dense")
    write_json(folder / "3_Dense" / "config.json", {"activation_function": activation})


REMOTE = {"AutoModel": "modeling.Evil"}
CASES: dict[str, tuple[Callable[[Path], None], str]] = {
    "code beside the weights": (lambda f: edit(f / "config.json", auto_map=REMOTE), "'auto_map' names code"),
    "code for a nested model": (
        lambda f: edit(f / "config.json", text_config={"deep": [{"auto_map": REMOTE}]}),
        "'auto_map' names code",
    ),
    "a tokenizer of its own": (lambda f: edit(f / "tokenizer_config.json", auto_map=REMOTE), "'auto_map'"),
    "a pipeline of its own": (
        lambda f: edit(f / "config.json", custom_pipelines={"x": {}}),
        "'custom_pipelines'",
    ),
    "trust in arguments": (
        lambda f: edit(f / "sentence_bert_config.json", model_args={"trust_remote_code": True}),
        "'trust_remote_code'",
    ),
    "an adapter": (lambda f: edit(f / "adapter_config.json", base_model_name_or_path="/x"), "is an adapter"),
    "a class from elsewhere": (lambda f: add_module(f, "os.system", ""), "'os.system'"),
    "a class of the folder": (lambda f: add_module(f, "modeling.Evil", ""), "'modeling.Evil'"),
    "a class that looks known": (lambda f: add_module(f, "sentence_transformers_evil.X", ""), "evil"),
    "a module that is unknown": (lambda f: add_module(f, "sentence_transformers.models.CNN", ""), "CNN"),
    "a module outside": (lambda f: add_module(f, "sentence_transformers.models.Dense", "../x"), "leads out"),
    "a module elsewhere": (
        lambda f: add_module(f, "sentence_transformers.models.Dense", "/etc"),
        "leads out",
    ),
    "an activation that is code": (lambda f: with_dense(f, "os.system"), "'os.system' is not torch's own"),
    "a layer without weights": (
        lambda f: with_dense(f, "torch.nn.modules.activation.Tanh"),
        "3_Dense/model.safetensors: is missing",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_folder_that_could_run_code_is_refused(tmp_path: Path, case: str) -> None:
    source = tiny_bert_folder(tmp_path / "source")
    edit(source / "config.json", model_type="mpnet")
    (source / "modeling.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')")
    damage, reason = CASES[case]
    damage(source)
    with pytest.raises(ModelError) as caught:
        import_sentence_transformers(source, tmp_path / "package")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_pickled_weights_of_any_architecture_are_never_loaded(tmp_path: Path, name: str) -> None:
    source = tiny_bert_folder(tmp_path / "source")
    edit(source / "config.json", model_type="mpnet")
    (source / "model.safetensors").unlink()
    (source / name).write_bytes(pickle.dumps(Canary(tmp_path / "canary")))
    with pytest.raises(ModelError, match="is a pickle"):
        import_sentence_transformers(source, tmp_path / "package")
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("architecture", ["bert", "mpnet"])
def test_steps_that_no_package_makes_are_refused(tmp_path: Path, architecture: str) -> None:
    source = tiny_bert_folder(tmp_path / "source")
    edit(source / "config.json", model_type=architecture)
    edit(source / "config_sentence_transformers.json", truncate_dim=8)
    with pytest.raises(ModelError, match="truncate_dim: 8 is not supported"):
        import_sentence_transformers(source, tmp_path / "package")
    edit(source / "config_sentence_transformers.json", truncate_dim=None, prompts={"query": "find: "})
    edit(source / "1_Pooling" / "config.json", include_prompt=False)
    with pytest.raises(ModelError, match="include_prompt: false is not supported"):
        import_sentence_transformers(source, tmp_path / "package")


def test_pooling_without_prompts_is_as_any_other_where_no_text_has_one(tmp_path: Path) -> None:
    source = tiny_bert_folder(tmp_path / "source")
    edit(source / "1_Pooling" / "config.json", include_prompt=False)
    edit(
        source / "config_sentence_transformers.json", truncate_dim=None, prompts={"query": "", "sort": "s: "}
    )
    assert import_sentence_transformers(source, tmp_path / "package").spec.dimension == 16
