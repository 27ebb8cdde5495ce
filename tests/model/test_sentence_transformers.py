"""A sentence-transformers folder becomes a package that computes what the original would."""

from __future__ import annotations

import json
import pickle
import string
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import tokenizers
from tests.model import reference_bert
from tests.models import tiny_bert_folder, write_json

from embedmill.errors import MissingExtra, ModelError
from embedmill.model import Encoder, ModelPackage
from embedmill.model.sentence_transformers import import_sentence_transformers

TEXTS = ["red apple", "a", "", "red red apple 12345 xyz", "Äpfel, bitte!", "q" * 500, "apple " * 29 + "b"]


def imported(source: Path, tmp_path: Path, **options: Any) -> ModelPackage:
    return import_sentence_transformers(source, tmp_path / "package", **options)


def token_ids(source: Path, text: str, max_length: int) -> list[int]:
    tokenizer = tokenizers.Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    ids: list[int] = tokenizer.encode(text).ids
    return ids


def edit_json(file: Path, **changes: Any) -> None:
    write_json(file, json.loads(file.read_text()) | changes)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"hidden_act": "gelu_new"},
        {"hidden_act": "relu", "num_attention_heads": 2},
        {"model_type": "roberta", "type_vocab_size": 1, "pad_token_id": 0},
    ],
    ids=["bert", "tanh-gelu", "relu", "roberta"],
)
def test_vectors_are_those_of_the_textbook_computation(
    tmp_path: Path, config: dict[str, Any], pooling: str
) -> None:
    source = tiny_bert_folder(tmp_path / "source", pooling=pooling, normalize=False, **config)
    package = imported(source, tmp_path)
    said = json.loads((source / "config.json").read_text())
    weights = safetensors.numpy.load_file(source / "model.safetensors")
    computed = Encoder.load(package, batch_tokens=64).encode_texts(TEXTS)
    for text, vector in zip(TEXTS, computed, strict=True):
        expected = reference_bert.embed(token_ids(source, text, 32), said, weights, pooling)
        np.testing.assert_allclose(vector, expected, atol=2e-5)


def test_texts_are_cut_at_the_sentence_transformers_length_and_not_at_the_tokenizers(tmp_path: Path) -> None:
    package = imported(tiny_bert_folder(tmp_path / "source", max_length=20), tmp_path)
    ids = Encoder.load(package).binding.texts[0].tokenizer.tokenize(["red apple", "a " * 99]).ids
    assert [len(one) for one in ids] == [4, 20]


def test_the_length_is_the_models_where_the_folder_says_none_or_too_much(tmp_path: Path) -> None:
    source = tiny_bert_folder(tmp_path / "source", positions=40)
    (source / "sentence_bert_config.json").unlink()
    write_json(source / "tokenizer_config.json", {"model_max_length": 10**30})
    assert imported(source, tmp_path).spec.encoders["item"].root["input_ids"].kind.max_length == 40  # type: ignore[union-attr]


def test_a_length_that_the_model_has_no_positions_for_is_refused(tmp_path: Path) -> None:
    source = tiny_bert_folder(tmp_path / "source", positions=40)
    with pytest.raises(ModelError, match="positions for 40 tokens"):
        imported(source, tmp_path, max_length=41)


@pytest.mark.parametrize("normalize", [True, False])
def test_vectors_have_unit_length_if_and_only_if_the_modules_say_normalize(
    tmp_path: Path, normalize: bool
) -> None:
    package = imported(tiny_bert_folder(tmp_path / "source", normalize=normalize), tmp_path)
    assert package.spec.normalize == ("l2" if normalize else "none")
    norms = np.linalg.norm(Encoder.load(package).encode_texts(["red", "apple pie"]), axis=1)
    assert np.allclose(norms, 1.0, atol=1e-6) == normalize


def test_the_layout_that_newer_versions_write_is_read_alike(tmp_path: Path) -> None:
    old = tiny_bert_folder(tmp_path / "old")
    new = tiny_bert_folder(tmp_path / "new")
    kinds = ("base.modules.transformer.Transformer", "modules.pooling.Pooling", "modules.normalize.Normalize")
    paths = ("", "1_Pooling", "2_Normalize")
    modules = [{"path": p, "type": f"sentence_transformers.{k}"} for p, k in zip(paths, kinds, strict=True)]
    write_json(new / "modules.json", modules)
    write_json(new / "1_Pooling" / "config.json", {"embedding_dimension": 16, "pooling_mode": "mean"})
    first = import_sentence_transformers(old, tmp_path / "a")
    second = import_sentence_transformers(new, tmp_path / "b")
    assert first.encoder_digest() == second.encoder_digest()


def test_tensors_may_have_a_prefix_and_half_precision(tmp_path: Path) -> None:
    source = tiny_bert_folder(tmp_path / "source")
    weights = safetensors.numpy.load_file(source / "model.safetensors")
    half = {f"bert.{name}": tensor.astype(np.float16) for name, tensor in weights.items()}
    plain = import_sentence_transformers(source, tmp_path / "plain")
    safetensors.numpy.save_file(half, source / "model.safetensors")
    prefixed = import_sentence_transformers(source, tmp_path / "prefixed")
    a, b = (Encoder.load(package).encode_texts(TEXTS) for package in (plain, prefixed))
    assert (a * b).sum(axis=1).min() > 0.999


def test_two_imports_of_one_folder_have_one_encoder_digest(tmp_path: Path) -> None:
    source = tiny_bert_folder(tmp_path / "source")
    first, second = (import_sentence_transformers(source, tmp_path / name, name=name) for name in "ab")
    assert first.encoder_digest() == second.encoder_digest()
    assert first.package_digest() != second.package_digest()


def test_prompts_of_the_folder_go_in_front_of_the_templates(tmp_path: Path) -> None:
    source = tiny_bert_folder(tmp_path / "source")
    write_json(
        source / "config_sentence_transformers.json", {"prompts": {"query": "{q}: ", "document": "d: "}}
    )
    package = imported(source, tmp_path, template="d: {title}")
    encoders = package.spec.encoders
    assert encoders["item"].root["input_ids"].kind.template == "d: {title}"  # type: ignore[union-attr]
    assert encoders["query_text"].root["input_ids"].kind.template == "{{q}}: {query}"  # type: ignore[union-attr]


def test_a_folder_that_lowercases_does_so_in_the_package(tmp_path: Path) -> None:
    source = tiny_bert_folder(tmp_path / "source")
    tokenizer = tokenizers.Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=False)
    tokenizer.save(str(source / "tokenizer.json"))
    edit_json(source / "sentence_bert_config.json", do_lower_case=True)
    vectors = Encoder.load(imported(source, tmp_path)).encode_texts(["RED Apple", "red apple"])
    assert (vectors[0] == vectors[1]).all()


def test_the_package_has_goldens_of_both_encoders_and_the_licence_of_the_card(tmp_path: Path) -> None:
    source = tiny_bert_folder(tmp_path / "source")
    (source / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n")
    package = imported(source, tmp_path)
    assert package.spec.license == "apache-2.0"
    for encoder, field in (("item", "text"), ("query_text", "query")):
        lines = (package.root / "goldens" / f"{encoder}.jsonl").read_text("utf-8").splitlines()
        goldens = [json.loads(line) for line in lines]
        again = Encoder.load(package, encoder).encode_texts([golden["fields"][field] for golden in goldens])
        assert len(goldens) >= 12
        assert (again == np.array([golden["vector"] for golden in goldens], np.float32)).all()


class Canary:
    """Unpickling it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.file), "w"))


def test_a_pickle_is_never_loaded_whatever_it_is_called(tmp_path: Path) -> None:
    source = tiny_bert_folder(tmp_path / "source")
    (source / "model.safetensors").write_bytes(pickle.dumps(Canary(tmp_path / "canary")))
    with pytest.raises(ModelError, match="is a pickle"):
        imported(source, tmp_path)
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model.bin is a pickle and never loaded"):
        imported(source, tmp_path)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: (s / "modules.json").unlink(), "has no modules.json"),
        (lambda s: (s / "modules.json").write_text("[{}]"), "modules.json: cannot be read"),
        (lambda s: write_json(s / "modules.json", [{"type": "x.CLIPModel", "path": ""}]), "CLIPModel"),
        (lambda s: (s / "config.json").unlink(), "config.json: is missing"),
        (lambda s: (s / "config.json").write_text("[]"), "expected a mapping"),
        (lambda s: edit_json(s / "config.json", hidden_size=None), "a key is missing or wrong"),
        (lambda s: edit_json(s / "config.json", hidden_size=24), "cannot"),
        (lambda s: edit_json(s / "config.json", num_hidden_layers=3), "encoder.layer.2"),
        (lambda s: (s / "tokenizer.json").unlink(), "tokenizer.json: is missing"),
        (lambda s: (s / "tokenizer.json").write_text("{}"), "no tokenizer file"),
        (lambda s: (s / "model.safetensors").write_bytes(b"\xff" * 64), "cannot be read as float32 weights"),
    ],
)
def test_a_folder_that_cannot_be_imported_is_one_line_and_leaves_nothing(
    tmp_path: Path, damage: Any, message: str
) -> None:
    source = tiny_bert_folder(tmp_path / "source")
    damage(source)
    with pytest.raises(ModelError) as caught:
        imported(source, tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.skipif(find_spec("torch") is not None, reason="torch is installed: it is exported")
@pytest.mark.parametrize(
    "change",
    [
        lambda s: edit_json(s / "config.json", model_type="t5"),
        lambda s: edit_json(s / "config.json", hidden_act="silu"),
        lambda s: edit_json(s / "config.json", position_embedding_type="relative_key"),
        lambda s: edit_json(s / "1_Pooling" / "config.json", pooling_mode_max_tokens=True),
        lambda s: edit_json(s / "1_Pooling" / "config.json", pooling_mode="lasttoken"),
    ],
)
def test_another_architecture_needs_the_extra_torch(tmp_path: Path, change: Any) -> None:
    source = tiny_bert_folder(tmp_path / "source")
    change(source)
    with pytest.raises(MissingExtra, match=r"embedmill\[torch\]"):
        imported(source, tmp_path)


def test_an_existing_target_is_left_alone(tmp_path: Path) -> None:
    source = tiny_bert_folder(tmp_path / "source")
    (tmp_path / "package").mkdir()
    with pytest.raises(ModelError, match="exists already"):
        imported(source, tmp_path)
    assert not list((tmp_path / "package").iterdir())


def test_the_package_is_named_after_the_folder_in_the_form_that_names_have(tmp_path: Path) -> None:
    source = tiny_bert_folder(tmp_path / "My Model (v2)")
    name = imported(source, tmp_path).spec.name
    assert name == "my-model-v2"
    assert set(name) <= set(string.ascii_lowercase + string.digits + "._-")
