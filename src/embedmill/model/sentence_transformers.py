"""Makes a model package of a sentence-transformers folder.

Of the BERT family the graph is built from the weights, without torch or transformers; all others are exported
by the libraries that know them (`exporting.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tokenizers
import yaml

from embedmill.errors import ModelError
from embedmill.extras import optional
from embedmill.model.bert import OUTPUT, BertShape, Weights, bert_graph
from embedmill.model.exporting import import_exported
from embedmill.model.importing import copy_file, make_goldens
from embedmill.model.new_package import new_package
from embedmill.model.package import SPEC_FILE, ModelPackage
from embedmill.model.sentence_folder import SentenceFolder, missing_weights, read_json
from embedmill.runtimes.safetensors_header import check_safetensors

WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.json"
FIRST_TENSOR = "embeddings.word_embeddings.weight"
POOLINGS: Mapping[str, Literal["mean", "cls"]] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "mean": "mean",
    "cls": "cls",
}
PLAIN = (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])


@dataclass(frozen=True)
class _Source:
    """What a folder of the BERT family says."""

    folder: SentenceFolder
    transformer: Path
    shape: BertShape
    pooling: Literal["mean", "cls"]
    normalize: bool
    lowercase: bool
    max_length: int


def import_sentence_transformers(
    source: Path,
    target: Path,
    *,
    name: str | None = None,
    template: str = "{text}",
    query_template: str = "{query}",
    max_length: int | None = None,
) -> ModelPackage:
    """Make the package `target`, with encoders `item` and `query_text`.

    Prompts that the folder declares for documents and queries go in front of the templates.

    Args:
        source: The folder, with `model.safetensors` and `tokenizer.json`.
        target: The folder to make.
        name: The package's name; that of the source's folder where None.
        template: What the item encoder reads, such as `{title}. {category}`.
        query_template: What the query encoder reads.
        max_length: Tokens kept; what the folder says where None.

    Raises:
        ModelError: The source is incomplete, unsafe or not to be exported, or `target` exists.
        MissingExtra: `onnx` or `safetensors` is not installed, or, for other families, sentence-transformers.
    """
    said = SentenceFolder.read(source)
    said.check_supported()
    templates = said.templates(template, query_template)
    if not _is_built_here(said):
        return import_exported(
            said, target, name=name or said.name, templates=templates, max_length=max_length
        )
    found = _read(said, max_length)
    with new_package(target) as folder:
        with _tensors(found.transformer / WEIGHTS) as weights:
            (folder / "model.onnx").write_bytes(bert_graph(found.shape, weights, found.pooling))
        _write_tokenizer(found, folder / TOKENIZER)
        spec = _spec(found, name or said.name, templates)
        (folder / SPEC_FILE).write_text(yaml.safe_dump(spec, sort_keys=False, allow_unicode=True), "utf-8")
        make_goldens(ModelPackage.open(folder))
    return ModelPackage.open(target)


def _is_built_here(folder: SentenceFolder) -> bool:
    """Whether `bert_graph` knows the architecture; what is damaged counts as known, to be told as such."""
    if folder.kinds not in PLAIN:
        return False
    modes = _pooling_modes(read_json(folder.path("Pooling") / "config.json"))
    return BertShape.knows(folder.config) and (len(modes) == 1 and modes[0] in POOLINGS)


def _read(folder: SentenceFolder, max_length: int | None) -> _Source:
    transformer = folder.path("Transformer")
    try:
        shape = BertShape.of_config(folder.config)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{transformer / 'config.json'}: a key is missing or wrong: {error}") from error
    said = folder.bert_config
    (pooling,) = _pooling_modes(read_json(folder.path("Pooling") / "config.json"))
    return _Source(
        folder=folder,
        transformer=transformer,
        shape=shape,
        pooling=POOLINGS[pooling],
        normalize="Normalize" in folder.kinds,
        lowercase=bool(said.get("do_lower_case")),
        max_length=_max_length(transformer, said, shape, max_length),
    )


def _pooling_modes(config: Mapping[str, Any]) -> list[str]:
    """The poolings of a config: flags (`pooling_mode_mean_tokens: true`), newly a name."""
    named = config.get("pooling_mode")
    flags = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    return [str(named)] if named is not None else flags


def _max_length(transformer: Path, bert: Mapping[str, Any], shape: BertShape, wanted: int | None) -> int:
    """Tokens kept: what the caller wants or the folder says, if the model has positions for them."""
    if wanted is not None and wanted > shape.positions:
        raise ModelError(f"max_length {wanted}: the model has positions for {shape.positions} tokens")
    said = bert.get("max_seq_length") or read_json(transformer / "tokenizer_config.json", optional=True).get(
        "model_max_length"
    )
    return wanted or min(int(said or shape.positions), shape.positions)


@contextmanager
def _tensors(file: Path) -> Iterator[Weights]:
    """Reads tensors of a safetensors file by name, as float32; a prefix such as `bert.` is found out."""
    if not file.is_file():
        raise missing_weights(file)
    check_safetensors(file)
    with optional("safetensors", "safetensors", extra="import"):
        from safetensors import SafetensorError, safe_open
    try:
        with safe_open(file, framework="numpy") as tensors:
            first = next((key for key in tensors.keys() if key.endswith(FIRST_TENSOR)), FIRST_TENSOR)  # noqa: SIM118
            prefix = first.removesuffix(FIRST_TENSOR)
            yield lambda name: tensors.get_tensor(prefix + name).astype(np.float32)
    except (SafetensorError, TypeError, OSError) as error:  # TypeError: a dtype that numpy does not have
        raise ModelError(f"{file}: cannot be read as float32 weights: {error}") from error


def _write_tokenizer(found: _Source, target: Path) -> None:
    file = found.transformer / TOKENIZER
    if not file.is_file():
        raise ModelError(f"{file}: is missing", hint="save the model again with a fast tokenizer")
    copy_file(file, target)
    if found.lowercase:
        tokenizer = tokenizers.Tokenizer.from_file(str(target))
        lower = tokenizers.normalizers.Lowercase()
        own = tokenizer.normalizer
        tokenizer.normalizer = lower if own is None else tokenizers.normalizers.Sequence([lower, own])
        tokenizer.save(str(target))


def _spec(found: _Source, name: str, templates: Mapping[str, str]) -> dict[str, Any]:
    def encoder(template: str) -> dict[str, Any]:
        text = {"template": template, "tokenizer": TOKENIZER, "max_length": found.max_length}
        return {"input_ids": {"text": text}}

    return {
        "name": name,
        "runtimes": [{"kind": "onnx", "file": "model.onnx", "output": OUTPUT}],
        "dimension": found.shape.hidden_size,
        "normalize": "l2" if found.normalize else "none",
        "encoders": {encoder_name: encoder(template) for encoder_name, template in templates.items()},
        **({"license": found.folder.license} if found.folder.license else {}),
    }
