"""Makes a model package of a sentence-transformers folder of any architecture: a program of `torch.export`.

sentence-transformers loads the folder once, here, and torch writes down what it computes; who embeds later
needs neither it nor transformers. It is shown a folder of links to configurations, tokenizers and safetensors
alone, so that there is nothing else that it could load.
"""

from __future__ import annotations

import inspect
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import tokenizers
import yaml

from embedmill.errors import ModelError
from embedmill.extras import optional
from embedmill.model.goldens import LOWEST_COSINE, cosines
from embedmill.model.importing import copy_file, make_goldens
from embedmill.model.new_package import new_package
from embedmill.model.package import SPEC_FILE, ModelPackage
from embedmill.model.samples import TEXTS
from embedmill.model.sentence_folder import SentenceFolder, missing_weights, read_json
from embedmill.model.tokens import Tokenizer
from embedmill.runtimes import load_runtime
from embedmill.runtimes.pt2_archive import checked_program
from embedmill.runtimes.safetensors_header import check_safetensors
from embedmill.spec import TorchSpec

PROGRAM = TorchSpec(kind="torch", file="model.pt2", output="sentence_embedding")
TOKENIZER = "tokenizer.json"
MODULES = frozenset({"Transformer", "Pooling", "Dense", "Normalize", "LayerNorm"})
WITH_WEIGHTS = frozenset({"Transformer", "Dense", "LayerNorm"})
SHOWN = frozenset({".json", ".safetensors", ".txt", ".model", ".jinja"})
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
EXAMPLE_TOKENS = 7
LONGEST = 512
"""Tokens kept where a folder does not say how many."""


def import_exported(
    folder: SentenceFolder, target: Path, *, name: str, templates: Mapping[str, str], max_length: int | None
) -> ModelPackage:
    """Make the package `target`; its vectors were compared with sentence-transformers' own.

    Args:
        folder: The source.
        target: The folder to make.
        name: The package's name.
        templates: What each encoder reads.
        max_length: Tokens kept; what the folder says where None.

    Raises:
        ModelError: The source is incomplete, unsafe, or not to be exported, or `target` exists.
        MissingExtra: sentence-transformers or torch is not installed.
    """
    _check(folder)
    torch, library = _libraries()
    with new_package(target) as package, _shown(folder) as shown:
        try:
            model = library.SentenceTransformer(
                str(shown),
                device="cpu",
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"use_safetensors": True, "dtype": torch.float32},
            ).eval()
            length = max_length or int(model.max_seq_length or LONGEST)
            tokenizer = _fast_tokenizer(folder, model)
            tokenizer.save(str(package / TOKENIZER))
            _export(torch, model, package / PROGRAM.file, length)
            original = model.encode(list(TEXTS), prompt="", show_progress_bar=False)
        except ModelError:
            raise
        except Exception as error:  # of either library, and of any kind
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelError(
                f"{folder.root}: cannot be exported: {reason[:300]}",
                hint="export it to ONNX, and import that",
            ) from error
        _compare(folder, package, length, original)
        spec = _spec(folder, name, templates, length, original.shape[1])
        (package / SPEC_FILE).write_text(yaml.safe_dump(spec, sort_keys=False, allow_unicode=True), "utf-8")
        make_goldens(ModelPackage.open(package))
    return ModelPackage.open(target)


def _check(folder: SentenceFolder) -> None:
    """Everything that can be told without loading anything.

    Raises:
        ModelError: The folder is unsafe, incomplete, or of modules that are not exported.
    """
    unknown = [kind for kind in folder.kinds if kind not in MODULES]
    if unknown or folder.kinds[:1] != ["Transformer"]:
        raise ModelError(
            f"{folder.root / 'modules.json'}: names the modules {', '.join(folder.kinds)}",
            hint=f"supported: Transformer, then {', '.join(sorted(MODULES))}; or export it to ONNX",
        )
    folder.check_harmless()
    read_json(folder.path("Transformer") / "config.json")
    for kind, path in folder.modules:
        if kind not in WITH_WEIGHTS:
            continue
        weights = sorted(path.glob("*.safetensors"))
        if not weights:
            raise missing_weights(path / "model.safetensors")
        for file in weights:
            check_safetensors(file)


def _libraries() -> tuple[ModuleType, ModuleType]:
    """PyTorch and sentence-transformers, which are told beforehand that there is no network."""
    for switch in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_PROGRESS_BARS"):
        os.environ[switch] = "1"
    needed = ("sentence_transformers", "torch", "transformers")
    with optional("sentence-transformers", *needed, extra="torch"):
        import sentence_transformers
        import torch
        import transformers
    transformers.utils.logging.disable_progress_bar()
    return torch, sentence_transformers


@contextmanager
def _shown(folder: SentenceFolder) -> Iterator[Path]:
    """A folder of links to what a library may read of the source."""
    with tempfile.TemporaryDirectory(prefix="embedmill-import-") as scratch:
        root = Path(scratch) / "model"
        for path in dict.fromkeys([folder.root, *(path for _, path in folder.modules)]):
            (root / path.relative_to(folder.root)).mkdir(parents=True, exist_ok=True)
            for file in path.glob("*") if path.is_dir() else ():
                if file.is_file() and file.suffix in SHOWN:
                    (root / file.relative_to(folder.root)).symlink_to(file.resolve())
        yield root


def _fast_tokenizer(folder: SentenceFolder, model: Any) -> tokenizers.Tokenizer:
    """The tokenizer as the library uses it, with the lower-casing that the folder asks for."""
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(f"{folder.root}: has no fast tokenizer", hint="save the model again with one")
    tokenizer = tokenizers.Tokenizer.from_str(backend.to_str())
    pad = model.tokenizer.pad_token_id
    tokenizer.enable_padding(pad_id=pad or 0, pad_token=model.tokenizer.pad_token or "[PAD]")
    if folder.bert_config.get("do_lower_case"):
        lower = tokenizers.normalizers.Lowercase()
        own = tokenizer.normalizer
        tokenizer.normalizer = lower if own is None else tokenizers.normalizers.Sequence([lower, own])
    return tokenizer


def _export(torch: ModuleType, model: Any, file: Path, length: int) -> None:
    """Write down what the model computes of token ids, for any number of rows and up to `length` tokens."""

    class Embedding(torch.nn.Module):  # type: ignore[misc, name-defined]
        """All modules of the folder, one after another."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None) -> Any:
            """Vectors, float32[N, D], of token ids and mask, int64[N, T]."""
            features = dict(zip(INPUTS, (input_ids, attention_mask, token_type_ids), strict=True))
            fed = {name: value for name, value in features.items() if value is not None}
            return {"sentence_embedding": self.model(fed)["sentence_embedding"]}

    rows, tokens = torch.export.Dim("rows"), torch.export.Dim("tokens", max=length)
    shape = (2, min(EXAMPLE_TOKENS, length))
    example = {name: torch.ones(shape, dtype=torch.int64) for name in _inputs(model)}
    free = {name: {0: rows, 1: tokens} for name in example}
    with torch.no_grad():
        program = torch.export.export(Embedding().eval(), (), example, dynamic_shapes=free)
    with tempfile.TemporaryDirectory(prefix="embedmill-export-") as scratch:
        saved = Path(scratch) / file.name
        torch.export.save(program, saved)
        with checked_program(saved, device=("cpu", None)) as (
            _,
            clean,
        ):  # without paths and times of this machine
            copy_file(clean, file)


def _inputs(model: Any) -> list[str]:
    """Those of the usual inputs that tokenizer and transformer know."""
    known = inspect.signature(model[0].auto_model.forward).parameters
    offered: Sequence[str] = model.tokenizer.model_input_names
    return [name for name in INPUTS if name in offered and name in known]


def _compare(folder: SentenceFolder, package: Path, length: int, original: Any) -> None:
    """Fail unless program and tokenizer together make the original's vectors.

    Raises:
        ModelError: They do not.
    """
    runtime = load_runtime(PROGRAM, package)
    tokens = Tokenizer.load(package / TOKENIZER, max_length=length).tokenize(TEXTS)
    batch = tokens.batch(np.arange(len(TEXTS)))
    offered = dict(zip(INPUTS, batch, strict=True))
    lowest = cosines(runtime.run({name: offered[name] for name in runtime.inputs}), original).min()
    if not lowest >= LOWEST_COSINE:
        raise ModelError(
            f"{folder.root}: exported it makes other vectors: cosine {lowest:.6f}, below {LOWEST_COSINE}"
        )


def _spec(
    folder: SentenceFolder, name: str, templates: Mapping[str, str], length: int, dimension: int
) -> dict[str, Any]:
    def encoder(template: str) -> dict[str, Any]:
        return {"input_ids": {"text": {"template": template, "tokenizer": TOKENIZER, "max_length": length}}}

    return {
        "name": name,
        "runtimes": [{"kind": PROGRAM.kind, "file": PROGRAM.file, "output": PROGRAM.output}],
        "dimension": dimension,
        "normalize": "l2" if folder.kinds[-1] == "Normalize" else "none",
        "encoders": {encoder_name: encoder(template) for encoder_name, template in templates.items()},
        **({"license": folder.license} if folder.license else {}),
    }
