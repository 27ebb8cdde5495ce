"""Makes a model package of a sentence-transformers folder of the BERT family, without torch or transformers.

The folder's format: https://sbert.net/docs/package_reference/sentence_transformer/models.html. Its
`modules.json` names Transformer, Pooling and, often, Normalize (which may lack the folder it names).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tokenizers
import yaml

from embedmill.errors import MissingExtra, ModelError
from embedmill.model.bert import OUTPUT, BertShape, Weights, bert_graph
from embedmill.model.importing import copy_file, make_goldens, new_package
from embedmill.model.package import SPEC_FILE, ModelPackage
from embedmill.runtimes.formats import refuse_pickle

WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.json"
FIRST_TENSOR = "embeddings.word_embeddings.weight"
POOLINGS: Mapping[str, Literal["mean", "cls"]] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "mean": "mean",
    "cls": "cls",
}
DOCUMENT_PROMPTS = ("document", "passage", "corpus")


@dataclass(frozen=True)
class _Source:
    """What a sentence-transformers folder says."""

    transformer: Path
    config: Mapping[str, Any]
    shape: BertShape
    pooling: Literal["mean", "cls"]
    normalize: bool
    lowercase: bool
    max_length: int
    prompts: Mapping[str, str]
    license: str | None


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
        ModelError: The source is incomplete, unsafe or of another family, or `target` exists.
        MissingExtra: `onnx` or `safetensors` is not installed.
    """
    found = _read(source, max_length)
    with new_package(target) as folder:
        with _tensors(found.transformer / WEIGHTS) as weights:
            (folder / "model.onnx").write_bytes(bert_graph(found.shape, weights, found.pooling))
        _write_tokenizer(found, folder / TOKENIZER)
        encoders = {
            "item": _with_prompt(found, template, *DOCUMENT_PROMPTS),
            "query_text": _with_prompt(found, query_template, "query"),
        }
        spec = _spec(found, name or _name(source), encoders)
        (folder / SPEC_FILE).write_text(yaml.safe_dump(spec, sort_keys=False, allow_unicode=True), "utf-8")
        make_goldens(ModelPackage.open(folder))
    return ModelPackage.open(target)


def _read(source: Path, max_length: int | None) -> _Source:
    modules = _modules(source)
    transformer = source / modules["Transformer"]
    config = _json(transformer / "config.json")
    try:
        shape = BertShape.of_config(config)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{transformer / 'config.json'}: a key is missing or wrong: {error}") from error
    bert = _json(transformer / "sentence_bert_config.json", optional=True)
    declared = _json(source / "config_sentence_transformers.json", optional=True)
    return _Source(
        transformer=transformer,
        config=config,
        shape=shape,
        pooling=_pooling(source / modules["Pooling"] / "config.json"),
        normalize="Normalize" in modules,
        lowercase=bool(bert.get("do_lower_case")),
        max_length=_max_length(transformer, bert, shape, max_length),
        prompts={key: text for key, text in (declared.get("prompts") or {}).items() if text},
        license=_license(source / "README.md"),
    )


def _modules(source: Path) -> dict[str, str]:
    """Folder of each module, by the last part of its type."""
    file = source / "modules.json"
    if not file.is_file():
        raise ModelError(f"{source}: no sentence-transformers folder: it has no modules.json")
    try:
        found = {str(m["type"]).rsplit(".", 1)[-1]: str(m["path"]) for m in json.loads(file.read_bytes())}
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file}: cannot be read: {error}") from error
    if list(found) not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ModelError(
            f"{file}: names the modules {', '.join(found)}",
            hint="supported: Transformer, Pooling and perhaps Normalize; or export to ONNX, and import that",
        )
    return found


def _json(file: Path, *, optional: bool = False) -> dict[str, Any]:
    if optional and not file.is_file():
        return {}
    try:
        found = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise ModelError(f"{file}: is missing") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{file}: expected a mapping, found {type(found).__name__}")
    return found


def _pooling(file: Path) -> Literal["mean", "cls"]:
    """The one pooling of a config: a flag (`pooling_mode_mean_tokens: true`), newly a name."""
    config = _json(file)
    named = config.get("pooling_mode")
    flags = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    modes = [str(named)] if named is not None else flags
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise ModelError(
            f"{file}: pools by {', '.join(modes) or 'nothing'}", hint="supported: mean, or cls, alone"
        )
    return POOLINGS[modes[0]]


def _max_length(transformer: Path, bert: Mapping[str, Any], shape: BertShape, wanted: int | None) -> int:
    """Tokens kept: what the caller wants or the folder says, if the model has positions for them."""
    if wanted is not None and wanted > shape.positions:
        raise ModelError(f"max_length {wanted}: the model has positions for {shape.positions} tokens")
    said = bert.get("max_seq_length") or _json(transformer / "tokenizer_config.json", optional=True).get(
        "model_max_length"
    )
    return wanted or min(int(said or shape.positions), shape.positions)


def _license(readme: Path) -> str | None:
    """What the model card's front matter says."""
    if not readme.is_file():
        return None
    front = re.match(r"---\n(.*?)\n---", readme.read_text("utf-8", errors="replace"), re.DOTALL)
    try:
        found = yaml.safe_load(front[1]) if front else None
    except yaml.YAMLError:
        return None
    said = found.get("license") if isinstance(found, dict) else None
    return said if isinstance(said, str) else None


@contextmanager
def _tensors(file: Path) -> Iterator[Weights]:
    """Reads tensors of a safetensors file by name, as float32; a prefix such as `bert.` is found out."""
    if not file.is_file():
        others = [path.name for path in file.parent.glob("*.bin")]
        hint = f"{others[0]} is a pickle and never loaded; " if others else ""
        raise ModelError(f"{file}: is missing", hint=f"{hint}save the model again as one safetensors file")
    refuse_pickle(file)
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise MissingExtra("safetensors", extra="import") from None
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


def _with_prompt(found: _Source, template: str, *names: str) -> str:
    prompt = next((found.prompts[name] for name in names if name in found.prompts), "")
    escaped = prompt.replace("{", "{{").replace("}", "}}")
    return template if template.startswith(escaped) else escaped + template


def _name(source: Path) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", source.resolve().name.lower()).strip("._-")[:63] or "model"


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
        **({"license": found.license} if found.license else {}),
    }
