"""Folders of architectures that are not built here are exported, and compute what the original does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sentence_transformers import SentenceTransformer
from tests.models import write_json
from tests.torch_group.cosines import lowest_cosine
from tests.torch_group.folders import ARCHITECTURES, LENGTH, random_folder
from tests.torch_group.texts import docstrings

from embedmill.model import Encoder, ModelPackage
from embedmill.model.check import check_package
from embedmill.model.sentence_transformers import import_sentence_transformers

TEXTS = ["red apple", "a", "b c d", "", *(text[:200] for text in docstrings(40))]


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_random_model_has_the_vectors_of_the_original(tmp_path: Path, kind: str) -> None:
    source = random_folder(tmp_path / "source", kind)
    package = import_sentence_transformers(source, tmp_path / "package")
    original = SentenceTransformer(str(source), device="cpu").encode(TEXTS)
    assert package.spec.runtimes[0].kind == "torch"
    assert package.spec.normalize == ("l2" if ARCHITECTURES[kind].dense else "none")
    assert lowest_cosine(Encoder.load(package).encode_texts(TEXTS), original) >= 0.9999


def test_a_text_has_one_vector_whatever_it_is_batched_with(tmp_path: Path) -> None:
    package = import_sentence_transformers(random_folder(tmp_path / "source", "qwen3"), tmp_path / "package")
    alone, together = (Encoder.load(package, batch_tokens=budget).encode_texts(TEXTS) for budget in (1, 4096))
    assert lowest_cosine(alone, together) >= 0.999999


def test_two_imports_of_one_folder_have_one_encoder_digest_and_no_paths_of_the_machine(
    tmp_path: Path,
) -> None:
    source = random_folder(tmp_path / "source", "mpnet")
    first, second = (import_sentence_transformers(source, tmp_path / name, name="x") for name in "ab")
    assert first.package_digest() == second.package_digest()
    program = (first.root / "model.pt2").read_bytes()
    assert b"site-packages" not in program
    assert str(tmp_path).encode() not in program


def test_prompts_become_what_the_encoders_read(tmp_path: Path) -> None:
    prompts = {"query": "query: ", "document": "passage: "}
    source = random_folder(tmp_path / "source", "mpnet", prompts=prompts)
    package = import_sentence_transformers(source, tmp_path / "package", template="{title}")
    original = SentenceTransformer(str(source), device="cpu")
    assert package.inputs("item").root["input_ids"].kind.template == "passage: {title}"  # type: ignore[union-attr]
    queries = Encoder.load(package, "query_text").encode_texts(TEXTS[:3])
    assert lowest_cosine(queries, original.encode(TEXTS[:3], prompt_name="query")) >= 0.9999


def test_a_shorter_length_is_kept_and_the_package_passes_its_check(tmp_path: Path) -> None:
    package = import_sentence_transformers(
        random_folder(tmp_path / "source", "distilbert"), tmp_path / "package", max_length=LENGTH // 2
    )
    assert package.inputs("item").root["input_ids"].kind.max_length == LENGTH // 2  # type: ignore[union-attr]
    runtimes = [each for encoder in check_package(package).encoders for each in encoder.runtimes]
    assert all(each.lowest_cosine == pytest.approx(1.0) for each in runtimes)


def test_a_folder_that_lowercases_does_so_in_the_package(tmp_path: Path) -> None:
    source = random_folder(tmp_path / "source", "mpnet")
    write_json(source / "sentence_bert_config.json", {"max_seq_length": LENGTH, "do_lower_case": True})
    encoder = Encoder.load(import_sentence_transformers(source, tmp_path / "package"))
    assert (encoder.encode_texts(["RED APPLE"]) == encoder.encode_texts(["red apple"])).all()


def test_who_embeds_needs_neither_transformers_nor_the_source(tmp_path: Path) -> None:
    source = random_folder(tmp_path / "source", "t5")
    package = import_sentence_transformers(source, tmp_path / "package")
    code = (
        "import sys; from embedmill.model import Encoder, ModelPackage; "
        f"Encoder.load(ModelPackage.open({str(package.root)!r})).encode_texts(['red apple']); "
        "sys.exit(any(name in sys.modules for name in ('transformers', 'sentence_transformers')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ModelPackage.open(package.root).contents(package.spec.runtimes[0]) == (package.root / "model.pt2",)
